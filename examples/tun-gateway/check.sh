#!/usr/bin/env bash
# check.sh - sets the gateway up between two namespaces, lets real stacks talk through it, checks every byte, takes it all down.
#
#   usage: sudo ./check.sh [plain | masquerade]      without an argument: one after the other
#
# Needs root, /dev/net/tun, ip (iproute2), ping, curl and python3. Nothing of the host's own network is touched: the two devices
# are moved into namespaces of their own as soon as they exist. Exit status 0 when all checks passed, 77 when the machine has no
# namespaces or no TUN devices.
#
#   inside (ns gufc-in)                    gateway                outside (ns gufc-out)
#   10.9.1.10/24, fd09:1::10/64  gufc-inside ─ TUN ─┴─ TUN ─ gufc-outside  10.9.2.10/24, fd09:2::10/64
#
# Masquerading, the outside has no route to the inside: it knows the gateway's 10.9.2.1 and fd09:2::1 only.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
case ${1:-both} in
both)
    ./check.sh plain && exec ./check.sh masquerade
    exit
    ;;
plain) masquerade= ;;
masquerade) masquerade=--masquerade ;;
*)
    echo "usage: $0 [plain | masquerade]" >&2
    exit 2
    ;;
esac
in=gufc-in-$$ out=gufc-out-$$ # namespaces
dev_in=gufci$$ dev_out=gufco$$
work=$(mktemp -d)
failed=0

ip netns add "$in" 2>/dev/null && ip netns add "$out" && [[ -c /dev/net/tun ]] || {
    echo "no namespaces or no TUN devices here"
    ip netns del "$in" 2>/dev/null
    exit 77
}

clean() {
    exec 9>&-
    # shellcheck disable=SC2046
    kill $(jobs -p) 2>/dev/null
    for ns in "$in" "$out"; do
        ip netns pids "$ns" 2>/dev/null | xargs -r kill 2>/dev/null
        ip netns del "$ns" 2>/dev/null
    done
    rm -rf "$work"
}
trap clean EXIT

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        echo "ok      $name"
    else
        echo "FAILED  $name"
        sed 's/^/        /' "$work/out" | tail -20
        failed=1
    fi
}

inside() { ip netns exec "$in" timeout 60 "$@"; }
outside() { ip netns exec "$out" timeout 60 "$@"; }

cargo build --release || exit 1
mkfifo "$work/stdin"
target/release/tun-gateway --inside "$dev_in" --outside "$dev_out" $masquerade <"$work/stdin" >"$work/report" 2>&1 &
gateway=$!
exec 9>"$work/stdin"
for _ in $(seq 50); do
    grep -q ready "$work/report" && break
    sleep 0.1
done

ip link set "$dev_in" netns "$in"
ip link set "$dev_out" netns "$out"
for ns in "$in" "$out"; do ip -n "$ns" link set lo up; done
ip -n "$in" addr add 10.9.1.10/24 dev "$dev_in"
ip -n "$in" addr add fd09:1::10/64 dev "$dev_in" nodad
ip -n "$in" link set "$dev_in" up
ip -n "$in" route add default dev "$dev_in"
ip -n "$in" -6 route add default dev "$dev_in"
ip -n "$out" addr add 10.9.2.10/24 dev "$dev_out"
ip -n "$out" addr add fd09:2::10/64 dev "$dev_out" nodad
ip -n "$out" link set "$dev_out" up
if [[ $masquerade ]]; then
    published=(10.9.2.1 "[fd09:2::1]")
    closed=10.9.2.1
    seen=(::ffff:10.9.2.1 fd09:2::1)
else
    ip -n "$out" route add 10.9.1.0/24 dev "$dev_out"
    ip -n "$out" -6 route add fd09:1::/64 dev "$dev_out"
    published=(10.9.1.10 "[fd09:1::10]")
    closed=10.9.1.10
    seen=(::ffff:10.9.1.10 fd09:1::10)
fi

# Servers: files both ways, and something that resolves names over UDP.
mkdir "$work/www"
head -c 20000000 /dev/urandom >"$work/www/large"
echo small >"$work/www/small"
for ns in "$in" "$out"; do
    ip netns exec "$ns" python3 -m http.server 8080 --bind :: --directory "$work/www" >/dev/null 2>&1 9>&- &
done
cat >"$work/dns.py" <<'PY'
"""Answers every query with its own bytes and the sender, as a name server answers with the query's identifier."""
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 53))
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(data + b" from %s %d" % (peer[0].encode(), peer[1]), peer)
PY
cat >"$work/ask.py" <<'PY'
"""Asks a server 200 times, from sockets of its own; wants each answer, and that the server saw the right sender."""
import socket, sys
for n in range(200):
    s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((sys.argv[1], 53))
    s.send(b"query %d" % n)
    answer = s.recv(2048)
    assert answer.startswith(b"query %d from %s " % (n, sys.argv[2].encode())), answer
PY
cat >"$work/trace.py" <<'PY'
"""Finds the way to a host as traceroute does: datagrams with one hop more each, to ports where nobody listens; the kernel says
which router's error came back, and it says so only where the error quotes what this socket sent."""
import errno, socket, struct, sys
target, router = sys.argv[1:3]
v6 = ":" in target
IP_RECVERR, IPV6_RECVERR = 11, 25
for hops, who, why in [(1, router, errno.EHOSTUNREACH), (2, target, errno.ECONNREFUSED)]:
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    s.connect((target, 33433 + hops))
    s.send(b"probe")
    try:
        s.recv(100)
        sys.exit("an answer from nobody")
    except OSError as got:
        assert got.errno == why, (hops, got)
    _, control, _, _ = s.recvmsg(100, 512, socket.MSG_ERRQUEUE)
    data = control[0][2]
    offender = data[16 + 8:16 + 24] if v6 else data[16 + 4:16 + 8]
    name = socket.inet_ntop(socket.AF_INET6 if v6 else socket.AF_INET, offender)
    print(hops, name)
    assert name == who, (hops, name, who)
PY
ip netns exec "$out" python3 "$work/dns.py" 9>&- &
sleep 1

same() { # URL
    inside curl -sgf "$1" | cmp - "$work/www/large"
}
hops() { # OPTIONS... - the first hop says that the packet's hops are used up
    inside ping -c 1 -W 5 -t 1 "$@" >"$work/hops" 2>&1
    cat "$work/hops"
    grep -qi "time to live exceeded\|hop limit" "$work/hops"
}
refused() { # URL - at once, not after a timeout
    inside curl -sg -m 20 "$1"
    [[ $? -eq 7 ]]
}
silent() { # URL
    outside curl -sg -m 2 "$1"
    [[ $? -eq 28 ]]
}
many() { # URL - two hundred small transfers, twenty at a time
    inside bash -c "seq 200 | xargs -P 20 -I{} curl -sgf -o /dev/null '$1'"
}

check "ping IPv4" inside ping -c 20 -i 0.05 -W 5 -q 10.9.2.10
check "ping IPv6" inside ping -c 20 -i 0.05 -W 5 -q fd09:2::10
check "20 MB over IPv4, byte for byte" same http://10.9.2.10:8080/large
check "20 MB over IPv6, byte for byte" same "http://[fd09:2::10]:8080/large"
check "200 transfers over IPv4" many http://10.9.2.10:8080/small
check "200 transfers over IPv6" many "http://[fd09:2::10]:8080/small"
check "200 queries over IPv4" inside python3 "$work/ask.py" 10.9.2.10 "${seen[0]}"
check "200 queries over IPv6" inside python3 "$work/ask.py" fd09:2::10 "${seen[1]}"
check "the way, hop by hop, IPv4" inside python3 "$work/trace.py" 10.9.2.10 10.9.1.1
check "the way, hop by hop, IPv6" inside python3 "$work/trace.py" fd09:2::10 fd09:1::1
published() { # NAMESPACE ADDRESS - 20 MB of the service inside, byte for byte
    "$1" curl -sgf "http://$2:8080/large" | cmp - "$work/www/large"
}
check "from outside to the published port, IPv4" published outside "${published[0]}"
check "from outside to the published port, IPv6" published outside "${published[1]}"
if [[ $masquerade ]]; then
    check "from inside to the published port, IPv4" published inside "${published[0]}"
    check "from inside to the published port, IPv6" published inside "${published[1]}"
    unknown() { ! outside ping -c 1 -W 1 10.9.1.10; }
    check "the outside knows no way to the inside" unknown
fi
check "the first hop answers, IPv4" hops 10.9.2.10
check "the first hop answers, IPv6" hops fd09:2::10
check "a rejected service is refused at once, IPv4" refused http://10.9.2.10:23/
check "a rejected service is refused at once, IPv6" refused "http://[fd09:2::10]:23/"
check "from outside to any other port: silence" silent "http://$closed:8081/"
check "path MTU is found, IPv4" inside ping -c 3 -W 2 -M do -s 1372 -q 10.9.2.10
too_big() { ! inside ping -c 1 -W 2 -M do -s 1373 10.9.2.10 && grep -qi "message too long\|frag needed" "$work/out"; }
check "what is too big is answered, IPv4" too_big

exec 9>&-
wait "$gateway"
check "the gateway ended by itself" grep -q "sessions begun" "$work/report"
if [[ $masquerade ]]; then
    check "connections were translated" grep -Eq " [1-9][0-9]+  connections translated" "$work/report"
else
    check "nothing was translated" grep -q "^ *0  connections translated" "$work/report"
fi
echo
cat "$work/report"
exit $failed
