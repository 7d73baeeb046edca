//! Captures: pcap and pcapng, from a file or embedded.

use std::io::Read;
use std::path::Path;

use gufc::time::Instant;
use gufc::wire::Link;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

/// The capture that comes with the crate.
static EMBEDDED: &[u8] = include_bytes!("mixed.pcap");

/// One packet of a capture.
pub(crate) struct Captured {
    /// Nanoseconds since the first packet, never running backwards.
    pub(crate) at: Instant,
    pub(crate) link: Link,
    pub(crate) bytes: Vec<u8>,
    /// Whether the capture kept only a part of it.
    pub(crate) cut: bool,
}

pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) packets: Vec<Captured>,
}

pub(crate) fn embedded() -> Result<Capture, String> {
    parse("embedded capture".into(), EMBEDDED)
}

/// Reads a capture file.
pub(crate) fn read(path: &Path) -> Result<Capture, String> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    opened.map_err(|why| format!("{name}: {why}"))?;
    parse(name, &bytes)
}

fn parse(name: String, bytes: &[u8]) -> Result<Capture, String> {
    let packets = if bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        pcapng(&name, bytes)
    } else {
        pcap(&name, bytes)
    }?;
    if packets.is_empty() {
        return Err(format!("{name}: no packets"));
    }
    Ok(Capture { name, packets })
}

/// Collects packets on a clock that starts at the first and never runs backwards.
#[derive(Default)]
struct Collector {
    packets: Vec<Captured>,
    start: Option<u128>,
}

impl Collector {
    fn push(
        &mut self,
        name: &str,
        nanos: u128,
        link: u32,
        bytes: &[u8],
        length: u64,
    ) -> Result<(), String> {
        let number = self.packets.len() + 1;
        let link = Link::of_capture(link).ok_or_else(|| {
            format!(
                "{name}: packet {number}: link type {link} is not Ethernet, raw IP or Linux cooked"
            )
        })?;
        let start = *self.start.get_or_insert(nanos);
        let at = Instant::from_nanos(nanos.saturating_sub(start) as u64);
        let at = self.packets.last().map_or(at, |last| last.at.max(at));
        self.packets.push(Captured {
            at,
            link,
            bytes: bytes.to_vec(),
            cut: (bytes.len() as u64) < length,
        });
        Ok(())
    }
}

fn pcap(name: &str, bytes: &[u8]) -> Result<Vec<Captured>, String> {
    let mut reader = PcapReader::new(bytes)
        .map_err(|why| format!("{name}: not a pcap or pcapng file: {why}"))?;
    let link = u32::from(reader.header().datalink);
    let mut collector = Collector::default();
    while let Some(packet) = reader.next_packet() {
        let number = collector.packets.len() + 1;
        let packet = packet
            .map_err(|why| format!("{name}: packet {number}: truncated or damaged: {why}"))?;
        let nanos = packet.timestamp.as_nanos();
        collector.push(name, nanos, link, &packet.data, packet.orig_len.into())?;
    }
    Ok(collector.packets)
}

fn pcapng(name: &str, bytes: &[u8]) -> Result<Vec<Captured>, String> {
    let mut reader = PcapNgReader::new(bytes)
        .map_err(|why| format!("{name}: not a pcap or pcapng file: {why}"))?;
    let mut collector = Collector::default();
    loop {
        let number = collector.packets.len() + 1;
        let Some(block) = reader.next_block() else {
            break;
        };
        let block = block
            .map_err(|why| format!("{name}: near packet {number}: truncated or damaged: {why}"))?;
        let (interface, nanos, data, length) = match block {
            Block::EnhancedPacket(packet) => (
                packet.interface_id as usize,
                packet.timestamp.as_nanos(),
                packet.data.into_owned(),
                u64::from(packet.original_len),
            ),
            Block::SimplePacket(packet) => {
                let last = collector.packets.last().map_or(0, |last| last.at.nanos());
                (
                    0,
                    u128::from(last),
                    packet.data.into_owned(),
                    u64::from(packet.original_len),
                )
            }
            _ => continue,
        };
        let link = reader
            .interfaces()
            .get(interface)
            .map(|interface| u32::from(interface.linktype));
        let link = link
            .ok_or_else(|| format!("{name}: packet {number}: it names no interface of the file"))?;
        collector.push(name, nanos, link, &data, length)?;
    }
    Ok(collector.packets)
}
