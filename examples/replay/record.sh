#!/usr/bin/env bash
#
# record.sh - record mixed.pcap, the capture that examples/replay embeds.
#
#   usage: sudo ./record.sh [-o FILE] [-k]
#
#     -o FILE   where to write the capture (default: mixed.pcap beside this script)
#     -k        keep the helper and its logs, and say where they are
#
# It needs root, and: bash, ip (iproute2), ethtool, tcpdump, ping (iputils),
# python3 (3.8 or later, standard library only). curl is used when it is there,
# otherwise the python client makes those requests too. It takes about 65 s.
# Nothing of the host's own network is touched: all interfaces are created
# inside fresh network namespaces, which are removed at the end.
#
# A new recording is never byte for byte the old one: ports, sequence numbers,
# timestamps and the kernel's own reactions differ from run to run. Addresses,
# MAC addresses and the list of flows stay the same.
#
# Topology
# --------
#
#   hosts (ns lan)            router (ns rtr)              isp (ns isp)     servers (ns srv)
#   10.10.0.11-.42/24  lan0   rl0           rt0 <-capture  up0       dn0    srv0
#   10.20.0.11-.14/24  ---+---             ---+---------+---           ---- 198.51.100.10-.25
#   fd00:10::11-::1a      |                   |         |                   2001:db8:1::10-::17, ::20
#   fd00:20::11-::12      |                   |         |
#                        [ wire (ns wire): userspace ]  +--- st0  branch office (ns site)
#                        [ links with delay, loss,   ]       192.0.2.10-.13
#                        [ reordering, duplication   ]       2001:db8:2::10
#
#   Every packet is made by a Linux network stack (or, for GRE and SCTP, by a raw
#   socket of one) and forwarded by the router's. The capture runs on rt0, the
#   router's outside interface, so it has both directions of forwarded traffic,
#   plus the router's own ARP, neighbour discovery and ICMP errors.
#
#   rt0 is also a VLAN trunk: traffic to the branch office carries an 802.1Q tag
#   (VLAN 20), all other traffic is untagged. Tagging is done by the helper, on
#   rv20/rv20x, so the kernel does not need its 8021q module.
#
#   The links pass through a userspace "wire" (AF_PACKET), which does what
#   `tc netem` would do and does not need that module either. ARP and neighbour
#   discovery pass through it undisturbed. For the rest:
#
#                               delay     loss    duplicated   held back (reordered)
#     outside, "far" servers    15 ms     3 %     1.5 %        4 %
#     outside, other            4 ms      0.4 %   0.2 %        0.5 %
#     inside,  "far" servers    1 ms      1.5 %   0            1 %
#     inside,  other            0.3 ms    0       0            0
#
#   and each direction is paced at 6 Mbit/s outside, 50 Mbit/s inside. "Far"
#   servers are 198.51.100.20 and 2001:db8:1::20. What is lost or reordered
#   outside, coming in, is lost before the capture point (gaps, then SACKs); what
#   is lost going out, or inside, is lost behind it (the same bytes seen twice).
#
# MAC addresses: rt0 02:00:00:00:00:01, isp up0 02:00:00:00:00:02, rv20 (router
# on VLAN 20) 02:00:00:00:20:01, st0 02:00:00:00:20:02.
#
# Segmentation and checksum offloads are off on every interface, so segments are
# MTU-sized and checksums are those of the wire. Packets are stored uncut.
#
# Flows
# -----
#
# Most start within the first 22 s. The rest of the minute is nearly quiet, so that
# idle flows run out while the capture still goes on.
#
#   TCP   about 200 short HTTP requests from many hosts, a few at a time
#         downloads and uploads with small and with full MSS over the far link,
#           several in parallel: SACK, DSACK, retransmissions, dup ACKs
#         the same over IPv6
#         keep-alive connections with several requests each
#         ECN negotiated to 198.51.100.12
#         keystroke sessions (port 2323), TCP keepalive probes on an idle one
#         a reader that stalls: zero window, window probes
#         abortive close (RST), half-close, the same four-tuple reused at once
#         refused connections (RST), over IPv4 and IPv6
#         connect scan of 300 ports (IPv4) and of 60 ports (IPv6)
#         SYN retransmissions to black-holed 198.51.100.200-.205
#   UDP   DNS questions and answers (port 53) from many ports, IPv4 and IPv6
#         a constant-rate stream each for IPv4 and IPv6 (port 5004), reports back
#         datagrams larger than the MTU (port 7): fragments with one UDP header
#         datagrams to closed ports
#   ICMP  ping, IPv4 and IPv6, also in 3008-byte (fragmented) packets, with record
#           route and with timestamp options
#         port, host, protocol unreachable, administratively prohibited
#         TTL exceeded, in both directions (UDP probes as of traceroute)
#         fragmentation needed and packet too big: from the router (hosts of
#           10.20.0.0/24 and fd00:20::/64 are behind a 1280-byte path) and from
#           the isp (198.51.100.15 is behind a 1400-byte path)
#   other ARP, neighbour discovery, MLD
#         GRE (plain, and with key and sequence number) carrying IPv4/UDP
#         SCTP INIT, answered by protocol unreachable where SCTP is not loaded
#         UDP over IPv6 with a destination options header
#         HTTP and ping to the branch office on VLAN 20, IPv4 and IPv6

set -euo pipefail

usage() { echo "usage: sudo $0 [-o FILE] [-k]" >&2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$here/mixed.pcap
keep=
while getopts 'o:kh' o; do
    case $o in
        o) out=$OPTARG ;;
        k) keep=1 ;;
        h) usage; exit 0 ;;
        *) usage; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -eq 0 ] || { usage; exit 2; }

missing=
for t in ip ethtool tcpdump ping python3; do
    command -v "$t" >/dev/null || missing="$missing $t"
done
[ -z "$missing" ] || { echo "$0: missing:$missing" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "$0: must run as root (network namespaces)" >&2; exit 1; }
command -v curl >/dev/null || echo "$0: no curl, the python client is used instead" >&2

tmp=$(mktemp -d)
tag=gufc$$
nss="lan rtr wire isp srv site"
pids=

cleanup() {
    trap - EXIT INT TERM
    set +e
    local n p
    for p in $pids; do kill "$p" 2>/dev/null; done
    for n in $nss; do
        for p in $(ip netns pids "$tag-$n" 2>/dev/null); do kill "$p" 2>/dev/null; done
    done
    wait 2>/dev/null
    for n in $nss; do ip netns del "$tag-$n" 2>/dev/null; done
    if [ -n "$keep" ]; then echo "kept: $tmp" >&2; else rm -rf "$tmp"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

in_ns() { local n=$1; shift; ip netns exec "$tag-$n" "$@"; }
ipn() { local n=$1; shift; ip -n "$tag-$n" "$@"; }
say() { echo "record: $*" >&2; }

# ---------------------------------------------------------------- the helper

cat >"$tmp/helper.py" <<'PY'
import ctypes, heapq, http.server, os, random, select, socket, struct, sys
import threading, time

ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING = 3, 263, 8, 4
FAR = (socket.inet_aton("198.51.100.20"),
       socket.inet_pton(socket.AF_INET6, "2001:db8:1::20"))


# ---- frames: a raw port, the wire, the VLAN sub-interface

class Port:
    """A raw socket on one interface; VLAN tags are put back into frames."""

    def __init__(self, name):
        self.name = name
        self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.s.bind((name, ETH_P_ALL))
        self.s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def recv(self):
        data, anc, _, addr = self.s.recvmsg(65536, 256)
        if addr[2] == PACKET_OUTGOING:
            return None
        for level, kind, d in anc:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", d[:20])
                if status & 0x10:
                    data = data[:12] + struct.pack("!HH", tpid or 0x8100, tci) + data[12:]
        return data

    def send(self, frame):
        try:
            self.s.send(frame)
        except OSError:
            pass


def vid(frame):
    if frame[12:14] == b"\x81\x00":
        return struct.unpack("!H", frame[14:16])[0] & 0xfff
    return None


def untag(frame):
    return frame[:12] + frame[16:]


def tag(frame, v):
    return frame[:12] + struct.pack("!HH", 0x8100, v) + frame[12:]


class Lane:
    """One direction of one link: pacing, delay, loss, duplication, reordering."""

    def __init__(self, rate, far, near):
        self.rate, self.far, self.near, self.last = rate, far, near, 0.0

    def times(self, frame, now, rng):
        """The times at which copies of this frame leave the link."""
        f = untag(frame) if vid(frame) is not None else frame
        etype, ip = f[12:14], f[14:]
        far = False
        if etype == b"\x08\x00":
            far = ip[12:16] in FAR or ip[16:20] in FAR
        elif etype == b"\x86\xdd" and ip[6] != 0 and not (ip[6] == 58 and 133 <= ip[40] <= 137):
            far = ip[8:24] in FAR or ip[24:40] in FAR
        else:
            return [now]                       # ARP, ND, MLD
        delay, loss, dup, hold = self.far if far else self.near
        if rng.random() < loss:
            return []
        t = max(now + delay, self.last + len(frame) * 8 / self.rate)
        if rng.random() < hold:
            return [t + rng.uniform(0.004, 0.012)]
        self.last = t
        if rng.random() < dup:
            return [t, t + rng.uniform(0.0, 0.003)]
        return [t]


def wire():
    rng = random.Random(20)
    lan, rl, trunk, up, site = (Port(n) for n in ("wl0", "wl1", "wt0", "wt1", "wv0"))
    outside = (6e6, (0.015, 0.03, 0.015, 0.04), (0.004, 0.004, 0.002, 0.005))
    inside = (50e6, (0.001, 0.015, 0.0, 0.01), (0.0003, 0.0, 0.0, 0.0))
    lanes = {p: Lane(*(inside if p in (lan, rl) else outside))
             for p in (lan, rl, trunk, up, site)}

    def route(port, f):
        if port is lan:
            return rl, f
        if port is rl:
            return lan, f
        if port is up:
            return trunk, f
        if port is site:
            return trunk, tag(f, 20)
        v = vid(f)
        if v is None:
            return up, f
        return (site, untag(f)) if v == 20 else (None, f)

    ports = {p.s.fileno(): p for p in (lan, rl, trunk, up, site)}
    heap, n = [], 0
    while True:
        wait = 1.0
        if heap:
            wait = max(0.0, heap[0][0] - time.monotonic())
        ready = select.select(list(ports), [], [], wait)[0]
        now = time.monotonic()
        for fd in ready:
            f = ports[fd].recv()
            if f is None:
                continue
            dst, g = route(ports[fd], f)
            if dst is not None:
                for t in lanes[ports[fd]].times(f, now, rng):
                    heapq.heappush(heap, (t, n, dst, g))
                    n += 1
        now = time.monotonic()
        while heap and heap[0][0] <= now:
            _, _, dst, g = heapq.heappop(heap)
            dst.send(g)


def vlanif():
    trunk, inner = Port("rt0"), Port("rv20x")
    while True:
        for fd in select.select([trunk.s, inner.s], [], [])[0]:
            p = trunk if fd is trunk.s else inner
            f = p.recv()
            if f is None:
                continue
            if p is inner:
                trunk.send(tag(f, 20))
            elif vid(f) == 20:
                inner.send(untag(f))


# ---- servers

LINE = b"the quick brown fox jumps over the lazy dog, packet after packet\n"


def text(n):
    return (LINE * (n // len(LINE) + 1))[:n]


class Web(http.server.BaseHTTPRequestHandler):
    server_version, sys_version = "demo", ""
    protocol_version = "HTTP/1.1"
    wbufsize = -1                              # header and body in one write

    def date_time_string(self, timestamp=None):
        return "-"

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(text(int(self.path.rsplit("/", 1)[1] or 0)))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(b"stored\n")

    def log_message(self, *a):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, *a):
        pass


def udp6(port):
    """A UDP socket for IPv4 and IPv6 that answers from the address asked."""
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    s.bind(("::", port))
    return s


def udp_loop(port, answer):
    s = udp6(port)
    while True:
        data, anc, _, addr = s.recvmsg(65536, 256)
        info = [(l, k, d) for l, k, d in anc if k == socket.IPV6_PKTINFO]
        info = [(l, k, d[:16] + b"\0\0\0\0") for l, k, d in info]
        a = answer(data, addr)
        if a is not None:
            try:
                s.sendmsg([a], info, 0, addr)
            except OSError:
                pass


def dns_answer(q, _):
    i = 12
    while q[i]:
        i += q[i] + 1
    name, qtype = q[12:i + 1], struct.unpack("!H", q[i + 1:i + 3])[0]
    if b"nowhere" in name:
        return q[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + q[12:i + 5]
    if qtype == 28:
        rdata = socket.inet_pton(socket.AF_INET6, "2001:db8:1::%x" % (16 + len(name) % 8))
    else:
        rdata = socket.inet_aton("198.51.100.%d" % (10 + len(name) % 16))
    rr = b"\xc0\x0c" + struct.pack("!HHIH", qtype, 1, 300, len(rdata)) + rdata
    return q[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + q[12:i + 5] + rr


count = {}


def stream_answer(data, addr):
    count[addr] = count.get(addr, 0) + 1
    return struct.pack("!4sI", b"rprt", count[addr]) + bytes(24) if count[addr] % 25 == 0 else None


def keys_server():
    s = socket.create_server(("::", 2323), family=socket.AF_INET6, dualstack_ipv6=True)

    def one(c):
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                d = c.recv(4096)
                if not d:
                    break
                c.sendall(d + (b"ok, done\r\n$ " if d.endswith(b"\r") else b""))
            c.sendall(b"logout\r\n")
        except OSError:
            pass
        c.close()
    while True:
        c, _ = s.accept()
        threading.Thread(target=one, args=(c,), daemon=True).start()


def gre_server():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
    while True:
        p = s.recv(65536)
        src, dst, gre = p[12:16], p[16:20], p[20:]
        hl = 4 + 4 * sum(bool(gre[0] & b) for b in (0x80, 0x20, 0x10))
        inner = gre[hl:]
        back = inner_udp(inner[16:20], inner[12:16], 5005, 5005, b"pong" + inner[32:])
        o = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
        o.bind((socket.inet_ntoa(dst), 0))
        o.sendto(gre[:hl] + back, (socket.inet_ntoa(src), 0))
        o.close()


def spawn(f, *a):
    t = threading.Thread(target=f, args=a, daemon=True)
    t.start()
    return t


def servers():
    web = WebServer(("::", 80), Web)
    for port, f in ((53, dns_answer), (5004, stream_answer), (7, lambda d, a: d)):
        spawn(udp_loop, port, f)
    spawn(keys_server)
    spawn(gre_server)
    web.serve_forever()


# ---- clients

def fam(a):
    return socket.AF_INET6 if ":" in a else socket.AF_INET


def tcp(src, dst, port, mss=0, sport=0, timeout=20, rcvbuf=0):
    s = socket.socket(fam(dst), socket.SOCK_STREAM)
    s.settimeout(timeout)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if mss:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.bind((src, sport))
    s.connect((dst, port))
    return s


def read_all(s):
    n = 0
    while True:
        d = s.recv(65536)
        if not d:
            return n
        n += len(d)


def get(src, dst, size, mss=0, sport=0):
    s = tcp(src, dst, 80, mss, sport)
    s.sendall(b"GET /%d HTTP/1.0\r\n\r\n" % int(size))
    n = read_all(s)
    s.close()
    return n


def post(src, dst, size, mss=0):
    s = tcp(src, dst, 80, mss)
    s.sendall(b"POST /up HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % size + text(size))
    read_all(s)
    s.close()


def keepalive_web(src, dst, times, size):
    s = tcp(src, dst, 80)
    for _ in range(times):
        s.sendall(b"GET /%d HTTP/1.1\r\nHost: demo\r\n\r\n" % size)
        got = b""
        while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < size:
            got += s.recv(65536)
        time.sleep(0.15)
    s.close()


def keystrokes(src, dst, lines, idle=0.0, probe=2):
    rng = random.Random(src)
    s = tcp(src, dst, 2323)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if idle:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe)
    for line in lines:
        for ch in line + "\r":
            s.sendall(ch.encode())
            time.sleep(rng.uniform(0.03, 0.16))
            s.recv(4096)
        time.sleep(rng.uniform(0.2, 0.5))
    time.sleep(idle)
    s.shutdown(socket.SHUT_WR)
    read_all(s)
    s.close()


def staller(src, dst):
    s = tcp(src, dst, 80, rcvbuf=2304)
    s.sendall(b"GET /12000 HTTP/1.0\r\n\r\n")
    time.sleep(2.5)
    read_all(s)
    s.close()


def aborter(src, dst):
    s = tcp(src, dst, 80)
    s.sendall(b"GET /3000 HTTP/1.1\r\nHost: demo\r\n\r\n")
    s.recv(500)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def refused(src, dst, port):
    try:
        tcp(src, dst, port).close()
    except OSError:
        pass


def scan(src, dst, ports, gap):
    open_ = []

    def one(p):
        try:
            tcp(src, dst, p, timeout=4).close()
            open_.append(p)
        except OSError:
            pass
    ts = []
    for p in ports:
        ts.append(spawn(one, p))
        time.sleep(gap)
    for t in ts:
        t.join()


def black_hole(src, dsts, secs):
    ss = []
    for d in dsts:
        s = socket.socket(fam(d), socket.SOCK_STREAM)
        s.bind((src, 0))
        s.setblocking(False)
        s.connect_ex((d, 443))
        ss.append(s)
        time.sleep(0.05)
    time.sleep(secs)
    for s in ss:
        s.close()


def dns(src, dst, times, gap, seed):
    rng = random.Random(seed)
    words = "www mail files news git build cache ntp api static nowhere".split()
    for i in range(times):
        name = "%s.%s.example" % (rng.choice(words), rng.choice(("lab", "branch", "corp")))
        q = struct.pack("!HHHHHH", rng.randrange(65536), 0x100, 1, 0, 0, 0)
        q += b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0"
        q += struct.pack("!HH", rng.choice((1, 1, 1, 28)), 1)
        s = socket.socket(fam(dst), socket.SOCK_DGRAM)
        s.bind((src, 0))
        s.settimeout(0.6)
        s.connect((dst, 53))
        for _ in range(3):
            try:
                s.send(q)
                s.recv(1500)
                break
            except OSError:
                pass
        s.close()
        time.sleep(gap * rng.uniform(0.3, 1.7))


def stream(src, dst, n, gap, size):
    s = socket.socket(fam(dst), socket.SOCK_DGRAM)
    s.bind((src, 0))
    s.setblocking(False)
    t = time.monotonic()
    for i in range(n):
        s.sendto(struct.pack("!BBHII", 0x80, 96, i, i * 160, 0xfeed) + bytes(size - 12), (dst, 5004))
        t += gap
        time.sleep(max(0, t - time.monotonic()))
        try:
            s.recv(1500)
        except OSError:
            pass
    time.sleep(0.3)
    s.close()


def big_udp(src, dst, size, times):
    s = socket.socket(fam(dst), socket.SOCK_DGRAM)
    s.bind((src, 0))
    s.settimeout(0.5)
    for _ in range(times):
        s.sendto(text(size), (dst, 7))
        try:
            s.recv(65536)
        except OSError:
            pass
    s.close()


def closed_udp(src, dst, ports):
    for p in ports:
        s = socket.socket(fam(dst), socket.SOCK_DGRAM)
        s.bind((src, 0))
        s.settimeout(0.1)
        try:
            s.connect((dst, p))
            s.send(b"anyone there? %d" % p)
            s.recv(100)
        except OSError:
            pass
        s.close()


def probes(src, dst, hops):
    """UDP probes with growing hop limit, as traceroute sends them."""
    port = 33434
    for h in hops:
        for _ in range(3):
            s = socket.socket(fam(dst), socket.SOCK_DGRAM)
            s.bind((src, 0))
            if fam(dst) == socket.AF_INET:
                s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, h)
            else:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, h)
            s.sendto(bytes(24), (dst, port))
            port += 1
            time.sleep(0.06)
            s.close()


def csum(b):
    if len(b) % 2:
        b += b"\0"
    x = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while x >> 16:
        x = (x & 0xffff) + (x >> 16)
    return ~x & 0xffff


def inner_udp(src, dst, sport, dport, data):
    n = 8 + len(data)
    u = struct.pack("!HHHH", sport, dport, n, 0) + data
    c = csum(src + dst + struct.pack("!HH", 17, n) + u) or 0xffff
    u = u[:6] + struct.pack("!H", c) + u[8:]
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + n, 7, 0, 64, 17, 0, src, dst)
    return h[:10] + struct.pack("!H", csum(h)) + h[12:] + u


def gre(src, dst):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)
    s.bind((src, 0))
    a, b = socket.inet_aton("10.99.0.1"), socket.inet_aton("10.99.0.2")
    for i in range(6):
        h = struct.pack("!HH", 0, 0x800) if i < 3 else struct.pack("!HHII", 0x3000, 0x800, 77, i)
        s.sendto(h + inner_udp(a, b, 5005, 5005, b"inside %d" % i), (dst, 0))
        time.sleep(0.1)


def crc32c(b):
    c = 0xffffffff
    for x in b:
        c ^= x
        for _ in range(8):
            c = (c >> 1) ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff


def sctp(src, dst):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
    s.bind((src, 0))
    for i in range(2):
        init = struct.pack("!BBHIIHHI", 1, 0, 20, 0x1234 + i, 65536, 2, 2, 99)
        p = struct.pack("!HHI", 36412 + i, 36412, 0)
        s.sendto(p + struct.pack("<I", crc32c(p + bytes(4) + init)) + init, (dst, 0))
        time.sleep(0.2)


def dstopts(src, dst):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind((src, 0))
    s.settimeout(0.5)
    for i in range(2):
        s.sendmsg([b"with options %d" % i],
                  [(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, b"\0\0\1\4\0\0\0\0")], 0, (dst, 7))
        try:
            s.recv(100)
        except OSError:
            pass


def run(jobs):
    """Run jobs (start time, function, arguments), each in a thread."""
    def one(f, a):
        try:
            f(*a)
        except OSError as e:
            print(f.__name__, a, e, file=sys.stderr)
    t0 = time.monotonic()
    ts = []
    for at, f, *a in sorted(jobs, key=lambda j: j[0]):
        time.sleep(max(0, t0 + at - time.monotonic()))
        ts.append(spawn(one, f, a))
    for t in ts:
        t.join()


H = lambda n: "10.10.0.%d" % n
H6 = lambda n: "fd00:10::%x" % n
S = lambda n: "198.51.100.%d" % n
S6 = lambda n: "2001:db8:1::%x" % n


def short_web(hosts, pairs, times, gap, seed):
    rng = random.Random(seed)
    for _ in range(times):
        try:
            get(rng.choice(hosts), rng.choice(pairs), rng.choice((0, 20, 40, 80, 150, 400)))
        except OSError as e:
            print("short_web", e, file=sys.stderr)
        time.sleep(gap * rng.uniform(0.2, 1.8))


def lan():
    jobs = []
    hosts, hosts6 = [H(n) for n in range(11, 43)], [H6(n) for n in range(0x11, 0x1b)]
    near = [S(n) for n in range(10, 20)] + [S(n) for n in range(21, 26)]
    near6 = [S6(n) for n in range(0x10, 0x18)]
    for i in range(8):
        jobs.append((0.3 + i * 0.2, short_web, hosts, near, 17, 1.0, i))
    jobs.append((1.0, short_web, hosts6, near6, 22, 1.0, 100))
    for i in range(10):
        jobs.append((0.2 + i * 0.3, dns, hosts[i], S(10), 24, 0.8, i))
        if i < 4:
            jobs.append((0.4 + i * 0.3, dns, hosts6[i], S6(0x10), 18, 1.0, 50 + i))
    # transfers over the far link
    for i in range(3):
        jobs.append((2.0, get, hosts[i], S(20), 16000, 536))
    jobs.append((6.0, post, hosts[4], S(20), 16000, 536))
    jobs.append((6.5, post, hosts[5], S(20), 12000, 536))
    jobs.append((9.0, get, hosts[6], S(20), 22000))
    jobs.append((11.0, get, hosts6[0], S6(0x20), 14000, 536))
    jobs.append((11.2, get, hosts6[1], S6(0x20), 8000, 536))
    jobs.append((13.0, post, hosts6[2], S6(0x20), 9000, 536))
    # path MTU: the router's, the isp's
    jobs.append((4.0, get, "10.20.0.11", S(11), 7000))
    jobs.append((5.0, get, "fd00:20::11", S6(0x11), 7000))
    jobs.append((7.0, post, H(21), S(15), 6000))
    jobs.append((7.5, post, H6(0x15), S6(0x15), 6000))
    # kinds of connection
    for i in range(4):
        jobs.append((3 + i, keepalive_web, hosts[10 + i], near[i], 6, 60))
    for i in range(3):
        jobs.append((8 + i, get, hosts[14 + i], S(12), 300))
    jobs.append((2.5, keystrokes, H(30), S(14), ["ls -l", "make", "exit"]))
    jobs.append((4.5, keystrokes, H(31), S(14), ["uptime", "cat notes"]))
    jobs.append((5.5, keystrokes, H(32), S(20), ["top", "echo hello"]))
    jobs.append((6.5, keystrokes, H6(0x16), S6(0x14), ["ps", "df -h"]))
    jobs.append((3.5, keystrokes, H(33), S(16), ["w"], 9.0))
    # the quiet half minute at the end: sparse questions, one connection kept alive
    jobs.append((20.0, keystrokes, H(33), S(15), ["last"], 32.0, 8))
    jobs.append((26.0, dns, H(38), S(10), 12, 2.5, 80))
    jobs.append((28.0, dns, H6(0x18), S6(0x10), 5, 6.0, 81))
    for i in range(5):
        jobs.append((27.0 + 5 * i, get, H(20 + i), near[i], 40))
    jobs.append((8.5, staller, H(34), S(17)))
    for i in range(3):
        jobs.append((9.5 + i, aborter, H(35), near[i]))
        jobs.append((10.0 + i, get, H(36), S(18), 30, 0, 40000))
    for i in range(8):
        jobs.append((12 + i * 0.3, refused, hosts[i], near[i], 81 + i))
        jobs.append((12.1 + i * 0.3, refused, hosts6[i], near6[i], 81 + i))
    jobs.append((14.0, scan, H(40), S(13), range(1, 301), 0.012))
    jobs.append((18.5, scan, H6(0x18), S6(0x13), range(60, 120), 0.02))
    jobs.append((15.0, black_hole, H(41), [S(n) for n in range(200, 206)], 9.0))
    jobs.append((15.5, refused, H(42), S(99), 80))           # nobody has that address
    jobs.append((15.6, refused, H6(0x19), S6(0x99), 80))
    jobs.append((16.0, refused, H(42), S(115), 80))          # prohibited by the isp
    jobs.append((16.2, refused, H6(0x19), "2001:db8:1:dead::1", 80))
    # UDP
    jobs.append((5.0, stream, H(22), S(19), 200, 0.02, 52))
    jobs.append((10.0, stream, H6(0x17), S6(0x17), 75, 0.04, 52))
    jobs.append((17.0, big_udp, H(23), S(21), 2500, 2))
    jobs.append((17.5, big_udp, H6(0x17), S6(0x16), 2500, 2))
    jobs.append((18.0, closed_udp, H(24), S(22), range(9000, 9012)))
    jobs.append((18.2, closed_udp, H6(0x17), S6(0x12), range(9000, 9006)))
    jobs.append((19.0, probes, H(25), S(23), (2, 3)))
    jobs.append((19.5, probes, H6(0x1a), S6(0x15), (2, 3)))
    # other protocols, and the branch office on VLAN 20
    jobs.append((20.0, gre, H(26), S(24)))
    jobs.append((20.5, sctp, H(27), S(25)))
    jobs.append((20.7, dstopts, H6(0x1a), S6(0x10)))
    for i in range(10):
        jobs.append((6 + i, get, hosts[i], "192.0.2.%d" % (10 + i % 4), 50 + 30 * i))
    jobs.append((8.2, get, H(28), "192.0.2.10", 7000))
    for i in range(3):
        jobs.append((9 + i, get, hosts6[i], "2001:db8:2::10", 100))
    jobs.append((7.0, dns, H(29), "192.0.2.11", 8, 0.5, 70))
    jobs.append((9.0, keystrokes, H(29), "192.0.2.12", ["date"]))
    run(jobs)


def srv():
    """What the servers begin: probes toward the hosts, one stray datagram each."""
    run([(19.2, probes, S(10), H(20), (2, 3)), (19.8, probes, S6(0x10), H6(0x11), (2, 3)),
         (20.2, closed_udp, S(10), H(12), range(500, 503))])


# ---- summary

def summary(path):
    with open(path, "rb") as f:
        b = f.read()
    assert b[:4] == b"\xd4\xc3\xb2\xa1", "not a little-endian microsecond pcap"
    at, n, cut, c, first = 24, 0, 0, {}, None
    names = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 132: "SCTP", 58: "ICMPv6"}

    def add(k):
        c[k] = c.get(k, 0) + 1
    while at < len(b):
        s, us, cl, ol = struct.unpack("<IIII", b[at:at + 16])
        p = b[at + 16:at + 16 + cl]
        at, n, cut = at + 16 + cl, n + 1, cut + (cl < ol)
        last = s + us / 1e6
        first = last if first is None else first
        if vid(p) is not None:
            add("VLAN 20 tagged")
            p = untag(p)
        t, ip = p[12:14], p[14:]
        if t == b"\x08\x06":
            add("ARP")
        elif t == b"\x08\x00":
            add("IPv4 " + names.get(ip[9], str(ip[9])))
            if ip[6] & 0x3f or ip[7]:
                add("IPv4 fragments")
        elif t == b"\x86\xdd":
            nh, o = ip[6], 40
            while nh in (0, 43, 44, 60):
                if nh == 44:
                    add("IPv6 fragments")
                nh, o = ip[o], o + (8 if nh == 44 else 8 + 8 * ip[o + 1])
            add("IPv6 " + names.get(nh, str(nh)))
    print("%d bytes, %d packets, %.1f s, %d cut" % (len(b), n, last - first, cut))
    for k in sorted(c):
        print("  %-16s %6d" % (k, c[k]))


globals()[sys.argv[1]](*sys.argv[2:])
PY

# ---------------------------------------------------------------- topology

py() { local n=$1; shift; in_ns "$n" python3 "$tmp/helper.py" "$@"; }
bg() { local n=$1; shift; ip netns exec "$tag-$n" "$@" & pids="$pids $!"; }
bg_py() { local n=$1; shift; bg "$n" python3 "$tmp/helper.py" "$@"; }

say "building namespaces"
for n in $nss; do ip netns add "$tag-$n"; done

pair() { # ns if mac  ns if mac
    ip link add "$2" netns "$tag-$1" address "$3" type veth \
        peer name "$5" netns "$tag-$4" address "$6"
}
pair lan lan0 02:00:00:00:10:02 wire wl0 02:00:00:00:ff:01
pair rtr rl0 02:00:00:00:10:01 wire wl1 02:00:00:00:ff:02
pair rtr rt0 02:00:00:00:00:01 wire wt0 02:00:00:00:ff:03
pair isp up0 02:00:00:00:00:02 wire wt1 02:00:00:00:ff:04
pair isp dn0 02:00:00:00:30:01 srv srv0 02:00:00:00:30:02
pair site st0 02:00:00:00:20:02 wire wv0 02:00:00:00:ff:05
pair rtr rv20 02:00:00:00:20:01 rtr rv20x 02:00:00:00:ff:06

set_sysctl() { # ns value path...
    local n=$1 v=$2 p; shift 2
    for p in "$@"; do
        in_ns "$n" sh -c "[ ! -e /proc/sys/net/$p ] || echo $v >/proc/sys/net/$p"
    done
}
for n in $nss; do
    set_sysctl $n 0 ipv4/conf/all/rp_filter ipv4/conf/default/rp_filter \
        ipv4/icmp_ratelimit ipv6/icmp/ratelimit \
        ipv6/conf/all/accept_dad ipv6/conf/default/accept_dad \
        ipv6/conf/all/accept_ra ipv6/conf/default/accept_ra
    set_sysctl $n 10000 ipv4/icmp_msgs_per_sec
    set_sysctl $n 1 ipv4/tcp_no_metrics_save
    set_sysctl $n cubic ipv4/tcp_congestion_control 2>/dev/null ||
        set_sysctl $n reno ipv4/tcp_congestion_control
    for i in $(in_ns $n ls /sys/class/net); do
        [ "$i" = lo ] || set_sysctl $n 0 "ipv4/conf/$i/rp_filter" "ipv6/conf/$i/accept_dad"
    done
done
for n in rtr isp; do set_sysctl $n 1 ipv4/ip_forward ipv6/conf/all/forwarding; done
# the wire's ends, and the inner end of the VLAN interface, are ports without a stack
for i in wl0 wl1 wt0 wt1 wv0; do
    set_sysctl wire 1 ipv6/conf/$i/disable_ipv6
    ipn wire link set $i arp off
done
set_sysctl rtr 1 ipv6/conf/rv20x/disable_ipv6
ipn rtr link set rv20x arp off

for n in $nss; do
    for i in $(in_ns $n ls /sys/class/net); do
        case $i in
            lo) ;;
            *) in_ns $n ethtool -K "$i" tso off gso off gro off \
                   sg off tx off rx off >/dev/null ;;
        esac
    done
done

say "capturing on rt0"
ipn rtr link set rt0 up
bg rtr tcpdump -i rt0 -s 65535 -B 8192 -U -Z root -w "$tmp/mixed.pcap" 2>"$tmp/tcpdump.log"
dump=$!
for _ in $(seq 50); do
    grep -q listening "$tmp/tcpdump.log" && break
    sleep 0.1
done

for i in wl0 wl1 wt0 wt1 wv0; do ipn wire link set $i up; done
ipn rtr link set rv20x up
bg_py wire wire
bg_py rtr vlanif
sleep 0.5
for p in lan:lo lan:lan0 rtr:lo rtr:rl0 rtr:rv20 isp:lo isp:up0 isp:dn0 srv:lo srv:srv0 site:lo site:st0; do
    ipn "${p%%:*}" link set "${p##*:}" up
done

# hosts
for i in $(seq 11 42); do ipn lan addr add 10.10.0.$i/24 dev lan0; done
for i in $(seq 11 14); do ipn lan addr add 10.20.0.$i/24 dev lan0; done
for i in $(seq 17 26); do ipn lan addr add fd00:10::$(printf %x "$i")/64 dev lan0 nodad; done
for i in 11 12; do ipn lan addr add fd00:20::$i/64 dev lan0 nodad; done
ipn lan route add default via 10.10.0.1
ipn lan -6 route add default via fd00:10::1
ipn lan route add 198.51.100.12 via 10.10.0.1 features ecn

# router
ipn rtr addr add 10.10.0.1/24 dev rl0
ipn rtr addr add 10.20.0.1/24 dev rl0 noprefixroute
ipn rtr route add 10.20.0.0/24 dev rl0 mtu 1280
ipn rtr addr add fd00:10::1/64 dev rl0 nodad
ipn rtr addr add fd00:20::1/64 dev rl0 nodad noprefixroute
ipn rtr -6 route add fd00:20::/64 dev rl0 mtu 1280
ipn rtr addr add 10.255.0.1/30 dev rt0
ipn rtr addr add 2001:db8:ff::1/64 dev rt0 nodad
ipn rtr addr add 192.0.2.1/24 dev rv20
ipn rtr addr add 2001:db8:2::1/64 dev rv20 nodad
ipn rtr route add default via 10.255.0.2
ipn rtr -6 route add default via 2001:db8:ff::2

# isp
ipn isp addr add 10.255.0.2/30 dev up0
ipn isp addr add 2001:db8:ff::2/64 dev up0 nodad
ipn isp addr add 198.51.100.1/25 dev dn0
ipn isp addr add 2001:db8:1::1/64 dev dn0 nodad
ipn isp route add default via 10.255.0.1
ipn isp -6 route add default via 2001:db8:ff::1
ipn isp route add 198.51.100.15/32 dev dn0 mtu 1400
ipn isp -6 route add 2001:db8:1::15/128 dev dn0 mtu 1400
ipn isp route add prohibit 198.51.100.112/28
ipn isp route add blackhole 198.51.100.128/25
ipn isp -6 route add unreachable 2001:db8:1:dead::/64

# servers, branch office
for i in $(seq 10 25); do ipn srv addr add 198.51.100.$i/25 dev srv0; done
for i in 10 11 12 13 14 15 16 17 20; do ipn srv addr add 2001:db8:1::$i/64 dev srv0 nodad; done
ipn srv route add default via 198.51.100.1
ipn srv -6 route add default via 2001:db8:1::1
for i in $(seq 10 13); do ipn site addr add 192.0.2.$i/24 dev st0; done
ipn site addr add 2001:db8:2::10/64 dev st0 nodad
ipn site route add default via 192.0.2.1
ipn site -6 route add default via 2001:db8:2::1

bg_py srv servers
bg_py site servers
sleep 1.5

# ---------------------------------------------------------------- traffic

say "traffic"
py lan lan &
jobs_lan=$!
py srv srv &
jobs_srv=$!
quiet() { "$@" >/dev/null 2>&1 || true; }
pings() {
    sleep 1
    quiet in_ns lan ping -n -c 12 -i 0.3 -I 10.10.0.11 198.51.100.10 &
    quiet in_ns lan ping -n -c 12 -i 0.3 -I 10.10.0.12 198.51.100.20 &
    quiet in_ns lan ping -6 -n -c 12 -i 0.3 -I fd00:10::11 2001:db8:1::10 &
    quiet in_ns lan ping -n -c 4 -i 0.3 -I 10.10.0.13 192.0.2.10 &
    quiet in_ns lan ping -6 -n -c 4 -i 0.3 -I fd00:10::12 2001:db8:2::10 &
    sleep 5
    quiet in_ns lan ping -n -c 3 -i 0.3 -s 3000 -I 10.10.0.11 198.51.100.20 &
    quiet in_ns lan ping -6 -n -c 3 -i 0.3 -s 3000 -I fd00:10::11 2001:db8:1::20 &
    quiet in_ns lan ping -n -c 2 -i 0.3 -R -I 10.10.0.11 198.51.100.10 &
    quiet in_ns lan ping -n -c 2 -i 0.3 -T tsonly -I 10.10.0.11 198.51.100.10 &
    quiet in_ns srv ping -n -c 3 -i 0.3 -I 198.51.100.10 10.10.0.14 &
    wait
}
curls() {
    sleep 3
    local i
    for i in 11 12 13 14 15 16; do
        if command -v curl >/dev/null; then
            quiet in_ns lan curl -s --noproxy '*' -m 10 --interface 10.10.0.$i "http://198.51.100.$i/200"
            quiet in_ns lan curl -s --noproxy '*' -m 10 --interface fd00:10::$i "http://[2001:db8:1::$i]/200"
        else
            quiet py lan get 10.10.0.$i 198.51.100.$i 200
            quiet py lan get fd00:10::$i 2001:db8:1::$i 200
        fi
        sleep 0.5
    done
}
pings &
p1=$!
curls &
p2=$!
wait $jobs_lan $jobs_srv $p1 $p2
sleep 2

# ---------------------------------------------------------------- the end

kill "$dump"
wait "$dump" || true
sed 's/^/record: tcpdump: /' "$tmp/tcpdump.log" >&2
cp "$tmp/mixed.pcap" "$out"
python3 "$tmp/helper.py" summary "$out"
sha256sum "$out"
