//! Laws for packets by the thousand: built, damaged, cut, any bytes.

use super::*;
use gufc::key::Zone;
use gufc::packet::{Defect, Fragment, Interface, Rewrite};
use gufc::testing::frame::{CHOICES, frame as check, mend};
use gufc::wire::build::ethernet;

proptest! {
    /// What is built reads back, bare and behind Ethernet with tags and padding.
    #[test]
    fn built_packets_read_back(datagram in datagram(), vlan in vec(0u16..4096, 0..=2), padding in 0usize..20) {
        let built = datagram.emit().unwrap();
        let mut bytes = ethernet([2; 6], [4; 6], &vlan, &built);
        bytes.resize(bytes.len() + padding, 0xee);
        let zone = Zone::new(77).unwrap();
        let frame: Frame = Frame::ethernet(&mut bytes, &Arrival::on(Interface(3)).in_zone(zone)).unwrap();
        prop_assert_eq!(frame.packet(), &built[..]);
        let key = match key_of(&datagram) {
            Tuple::V4(key) => Tuple::V4(key.in_zone(zone)),
            Tuple::V6(key) => Tuple::V6(key.in_zone(zone)),
        };
        prop_assert_eq!(frame.key(), key);
        prop_assert_eq!(frame.vlan(), &vlan[..]);
        prop_assert_eq!(frame.ingress(), Interface(3));
        prop_assert_eq!(frame.length() as usize, built.len());
        prop_assert_eq!(frame.hop_limit(), datagram.hop_limit);
        prop_assert_eq!(frame.traffic_class(), datagram.traffic_class);
        prop_assert_eq!(frame.dont_fragment(), datagram.dont_fragment || datagram.source.is_ipv6());
        prop_assert_eq!(frame.defect(), None);
        prop_assert!(frame.is_intact());
        let atomic = datagram.source.is_ipv6() && datagram.extensions.iter().any(|(number, _)| *number == 44);
        prop_assert_eq!(frame.fragment(), if atomic { Fragment::Atomic } else { Fragment::Whole });
        prop_assert!(frame.transport().ends_with(&datagram.payload));
        match &datagram.transport {
            Transport::Tcp(tcp) => {
                let segment = frame.segment().unwrap();
                prop_assert_eq!((segment.seq, segment.ack, segment.flags), (tcp.seq, tcp.ack, tcp.flags));
                prop_assert_eq!((segment.window, segment.options), (tcp.window, tcp.options));
                prop_assert_eq!(segment.payload as usize, datagram.payload.len());
                prop_assert_eq!(frame.tcp_flags(), tcp.flags);
            }
            _ => prop_assert_eq!((frame.segment(), frame.tcp_flags()), (None, TcpFlags::NONE)),
        }
    }

    /// One flipped bit in what a checksum covers is noticed; then rewriting does not hide it.
    #[test]
    fn damage_is_noticed_and_kept(datagram in datagram(), at in any::<prop::sample::Index>(), bit in 0u32..8, port in port()) {
        let mut bytes = datagram.emit().unwrap();
        let covered = !matches!(
            datagram.transport,
            Transport::Udp { checksum: false, .. }
                | Transport::UdpLite { .. }
                | Transport::Gre { checksum: false, .. }
                | Transport::Other(_)
        );
        let header = {
            let frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
            frame.packet().len() - frame.transport().len()
        };
        if !covered || bytes.len() <= header + 4 {
            return Ok(());
        }
        // Not the ports and lengths, whose damage may make another packet of it.
        let at = header + 4 + at.index(bytes.len() - header - 4);
        let is_length = matches!(datagram.transport, Transport::Udp { .. }) && at < header + 8
            || matches!(datagram.transport, Transport::Tcp(_)) && at == header + 12
            || matches!(datagram.transport, Transport::Icmp { .. }) && at < header + 6;
        if is_length {
            return Ok(());
        }
        bytes[at] ^= 1 << bit;
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default()).unwrap();
        prop_assert!(!frame.is_intact());
        let key = frame.key();
        if key.protocol().has_ports() {
            let to = key.with(Endpoint { port, ..key.source() }, key.destination()).unwrap();
            frame.rewrite(&Rewrite::between(&key, &to));
            prop_assert!(!frame.is_intact());
        }
    }

    /// The laws hold for any packet, any choice of rewrite, whole or cut short.
    #[test]
    fn laws_hold(packet in packet(), choices: [u8; CHOICES], cut in 0usize..200) {
        let mut data = choices.to_vec();
        data[0] &= 0x1c;
        data.extend(&packet[..packet.len().saturating_sub(cut.saturating_sub(100))]);
        check(&data);
    }

    /// They hold for damaged packets too. IPv4 headers are made right again, or nothing would get past them.
    #[test]
    fn laws_hold_for_damaged_packets(
        packet in packet(),
        choices: [u8; CHOICES],
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut packet = packet;
        for (at, value) in damage {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        mend(&mut packet, 0);
        let mut data = choices.to_vec();
        data[0] &= 0x1c;
        data.extend(packet);
        check(&data);
    }

    #[test]
    fn laws_hold_for_any_bytes(data in vec(any::<u8>(), 0..120)) {
        check(&data);
    }

    /// Any sequence of rewrites leaves right checksums, and the way back leaves the very bytes.
    #[test]
    fn rewrites_keep_checksums(
        datagram in datagram(),
        steps in vec((ends(), port(), port()), 1..5),
        partial: bool,
    ) {
        let mut bytes = datagram.emit().unwrap();
        let original = bytes.clone();
        let checksums = if partial { Checksums::Partial } else { Checksums::Full };
        if partial && !uncover(&mut bytes) {
            return Ok(());
        }
        let start = bytes.clone();
        let mut frame: Frame = Frame::ip(&mut bytes, &Arrival::default().with_checksums(checksums)).unwrap();
        let first = frame.key();
        for ((source, destination), s, d) in steps {
            let key = frame.key();
            let (s, d) = if key.protocol().has_ports() {
                (s, d)
            } else if key.source().port != 0 {
                (s, key.destination().port)
            } else {
                (key.source().port, key.destination().port)
            };
            if let Some(to) = key.with(Endpoint::new(source, s), Endpoint::new(destination, d)) {
                if to.fields().family == key.fields().family {
                    frame.rewrite(&Rewrite::between(&key, &to));
                    prop_assert_eq!(frame.key(), to);
                    prop_assert!(frame.is_intact());
                    if partial {
                        let mut completed = frame.packet().to_vec();
                        complete(&mut completed);
                        let completed: Frame = Frame::ip(&mut completed, &Arrival::default()).unwrap();
                        prop_assert!(completed.is_intact(), "the device's sum makes it right");
                    }
                }
            }
        }
        frame.rewrite(&Rewrite::between(&frame.key(), &first));
        if !partial {
            prop_assert_eq!(frame.packet(), &original[..]);
        }
        prop_assert_eq!(frame.packet().len(), start.len());
    }

    /// Fragments are told apart; their addresses can be rewritten each on its own, and put together they are right again.
    #[test]
    fn fragments_rewrite_apart(datagram in datagram(), port in port()) {
        if matches!(datagram.transport, Transport::Sctp { .. }) {
            return Ok(());
        }
        let mut datagram = datagram;
        datagram.dont_fragment = false;
        datagram.identification = 0x1234;
        datagram.payload.resize(200, 7);
        datagram.extensions.retain(|(number, _)| *number != 44);
        let mtu = datagram.emit().unwrap().len() - 200 + 88;
        let mut pieces = datagram.fragments(mtu).unwrap();
        prop_assert!(pieces.len() > 1);
        let from = key_of(&datagram);
        let moved = |end: Endpoint| match end.address {
            IpAddr::V4(_) => Endpoint::new("203.0.113.9".parse().unwrap(), end.port),
            IpAddr::V6(_) => Endpoint::new("2001:db8:9::9".parse().unwrap(), end.port),
        };
        let mut source = moved(from.source());
        if from.protocol().has_ports() {
            source.port = port;
        }
        let to = from.with(source, from.destination()).unwrap();
        let rewrite = Rewrite::between(&from, &to);
        let mut together = Vec::new();
        let mut expected = 0;
        for bytes in &mut pieces {
            let mut frame: Frame = Frame::ip(bytes, &Arrival::default()).unwrap();
            let piece = frame.piece().unwrap();
            prop_assert_eq!((piece.identification, piece.offset), (0x1234, expected));
            prop_assert_eq!(frame.fragment(), if expected == 0 { Fragment::First } else { Fragment::Later });
            prop_assert_eq!(frame.segment(), None);
            expected += frame.transport().len() as u32;
            frame.rewrite(&rewrite);
            prop_assert_eq!(frame.key().source().address, to.source().address);
            together.extend(frame.transport());
            prop_assert_eq!(frame.defect(), None);
            if !piece.more {
                prop_assert_eq!(together.len(), expected as usize);
            }
        }
        let mut rewritten = datagram.clone();
        rewritten.source = to.source().address;
        match &mut rewritten.transport {
            Transport::Tcp(Tcp { source, .. })
            | Transport::Udp { source, .. }
            | Transport::UdpLite { source, .. } => *source = to.source().port,
            _ => {}
        }
        let whole = rewritten.emit().unwrap();
        prop_assert!(whole.ends_with(&together), "as if built with the new ends");
    }
}

/// Every sample cut at every length, with its length fields as they were and adjusted, on every link: a named defect or a
/// frame that keeps the laws.
#[test]
fn truncations_are_named() {
    for sample in samples() {
        let packet = sample.emit().unwrap();
        for length in 0..packet.len() {
            let mut cut = packet[..length].to_vec();
            let found = Frame::<Tuple>::ip(&mut cut, &Arrival::default()).map(|frame| frame.key());
            let expected = match (packet[0] >> 4, length) {
                (_, 0) => Defect::LinkTruncated,
                (4, 1..20) => Defect::Ipv4Truncated,
                (4, _) if length < usize::from(packet[0] & 15) * 4 => Defect::Ipv4Truncated,
                (4, _) => Defect::Ipv4TotalLength,
                (_, 1..40) => Defect::Ipv6Truncated,
                _ => Defect::Ipv6PayloadLength,
            };
            assert_eq!(found, Err(expected));
            let mut adjusted = packet[..length].to_vec();
            if packet[0] >> 4 == 4 && length >= 20 {
                adjusted[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            } else if length >= 40 {
                adjusted[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
            }
            mend(&mut adjusted, 0);
            for (how, bytes) in [
                (0u8, &packet[..length]),
                (0x10, &packet[..length]),
                (0, &adjusted),
                (4, &adjusted),
            ] {
                let mut data = vec![how, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
                data.extend(bytes);
                check(&data);
            }
            let framed = ethernet([2; 6], [4; 6], &[1, 2], &packet);
            let mut data = vec![1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
            data.extend(&framed[..length]);
            check(&data);
        }
    }
}
