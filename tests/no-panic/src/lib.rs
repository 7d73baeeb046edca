//! The proof at link time that the code which meets hostile bytes first cannot panic.
//!
//! The panic handler calls a symbol that nobody defines. Each function below wraps one entry into the parser; after link-time
//! optimisation the archive refers to the symbol exactly if some panic can still be reached. `.ci/no-panic` builds it, looks
//! for the symbol, and builds it again with the feature `control`, where the symbol must appear.
//!
//! Apart from the crate because exported symbols and raw parts of slices need `unsafe`, which the crate forbids.
#![no_std]

use core::net::{IpAddr, Ipv4Addr};
use gufc::key::{
    Cidr, Embedding, FlowKey, Key, PrefixTranslation, SevenTuple, Tuple, crossed,
};
use gufc::packet::{Mtus, Packet, Rewrite, Segment, Translation};
use gufc::wire::{Arrival, Checksums, Frame, FrameKey, Link, Notice, checksum};

unsafe extern "C" {
    /// Deliberately undefined.
    safe fn gufc_panicked() -> !;
}

#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    gufc_panicked()
}

/// The crate links `alloc`; nothing here may use it, and an allocation counts as a panic.
struct NoAllocation;

unsafe impl core::alloc::GlobalAlloc for NoAllocation {
    unsafe fn alloc(&self, _: core::alloc::Layout) -> *mut u8 {
        gufc_panicked()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: core::alloc::Layout) {
        gufc_panicked()
    }
}

#[global_allocator]
static NO_ALLOCATION: NoAllocation = NoAllocation;

/// The bytes that a caller owns.
///
/// # Safety
///
/// `bytes` must point to `length` bytes that nobody else uses.
unsafe fn slice<'a>(bytes: *mut u8, length: usize) -> &'a mut [u8] {
    unsafe { core::slice::from_raw_parts_mut(bytes, length) }
}

fn arrival(how: u32) -> Arrival {
    let mut arrival = Arrival::default().with_checksums(match how >> 8 & 3 {
        0 => Checksums::Full,
        1 => Checksums::Partial,
        _ => Checksums::Offloaded,
    });
    arrival.cut = how >> 10 & 1 != 0;
    arrival
}

fn parse<K: FrameKey>(bytes: &mut [u8], how: u32) -> Option<Frame<'_, K>> {
    let link = match how & 3 {
        0 => Link::Ip,
        1 => Link::Ethernet,
        2 => Link::Cooked,
        _ => Link::Cooked2,
    };
    Frame::parse(link, bytes, &arrival(how)).ok()
}

/// Everything that can be read of a frame, mixed into one number so that nothing is left out.
fn read<K: FrameKey>(frame: &Frame<'_, K>) -> u64 {
    let mut mixed = 0u64;
    let mut mix = |value: u64| mixed = mixed.rotate_left(7) ^ value;
    for key in [Some(frame.key()), frame.quoted()].into_iter().flatten() {
        let fields = key.fields();
        mix((fields.source >> 64) as u64 ^ fields.source as u64);
        mix((fields.destination >> 64) as u64 ^ fields.destination as u64);
        mix(u64::from(fields.source_port) << 16 | u64::from(fields.destination_port));
    }
    if let Some(segment) = frame.segment() {
        mix(u64::from(segment.end().0));
        mix(u64::from(segment.options.sack_blocks));
        mix(segment.options.sack_ranges().len() as u64);
    }
    if let Some(piece) = frame.piece() {
        mix(u64::from(piece.identification) ^ u64::from(piece.offset));
    }
    mix(u64::from(frame.length()));
    mix(u64::from(frame.transport_length()));
    mix(frame.transport().len() as u64);
    mix(u64::from(frame.hop_limit()));
    mix(u64::from(frame.traffic_class()));
    mix(u64::from(frame.dont_fragment()));
    mix(frame.vlan().len() as u64);
    mix(frame.defect().map_or(0, |defect| defect as u64));
    mix(frame.fragment() as u64);
    mix(u64::from(frame.is_intact()));
    mixed
}

/// Parsing and every reading method, both families in one key.
///
/// # Safety
///
/// As [`slice`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_read(bytes: *mut u8, length: usize, how: u32) -> u64 {
    let bytes = unsafe { slice(bytes, length) };
    parse::<Tuple>(bytes, how).map_or(0, |frame| read(&frame))
}

/// The same with a key of IPv4 alone.
///
/// # Safety
///
/// As [`slice`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_read_v4(bytes: *mut u8, length: usize, how: u32) -> u64 {
    let bytes = unsafe { slice(bytes, length) };
    parse::<SevenTuple<Ipv4Addr>>(bytes, how).map_or(0, |frame| {
        let [a, b] = frame.key().words();
        read(&frame) ^ a ^ b
    })
}

/// Building keys: inverse, words, rewrites between two of them, and locality.
///
/// # Safety
///
/// As [`slice`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_key(bytes: *mut u8, length: usize, how: u32) -> u64 {
    let bytes = unsafe { slice(bytes, length) };
    let Some(frame) = parse::<Tuple>(bytes, how) else {
        return 0;
    };
    let frame = frame.locate(|address| address.is_loopback());
    let key = frame.key();
    let Some(inverse) = key.inverse() else {
        return 1;
    };
    let rewrite = Rewrite::between(&key, &inverse);
    u64::from(rewrite.addresses) ^ u64::from(rewrite.ports) ^ u64::from(key < inverse)
}

/// Every rewriting method, to any key.
///
/// # Safety
///
/// As [`slice`], for both pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_rewrite(
    bytes: *mut u8,
    length: usize,
    other: *mut u8,
    other_length: usize,
    how: u32,
) -> u64 {
    let (bytes, other) = unsafe { (slice(bytes, length), slice(other, other_length)) };
    let (Some(mut frame), Some(other)) = (parse::<Tuple>(bytes, how), parse::<Tuple>(other, how))
    else {
        return 0;
    };
    let rewrite = Rewrite::between(&frame.key(), &other.key());
    frame.rewrite(&rewrite);
    frame.set_hop_limit(how as u8);
    let clamped = frame.clamp_mss(how as u16);
    let quoted = frame.rewrite_quoted(&rewrite);
    u64::from(clamped) | u64::from(quoted) << 1
}

/// Answering.
///
/// # Safety
///
/// As [`slice`], for both pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_answer(
    bytes: *mut u8,
    length: usize,
    out: *mut u8,
    out_length: usize,
    how: u32,
) -> usize {
    let (bytes, out) = unsafe { (slice(bytes, length), slice(out, out_length)) };
    let notice = match how >> 16 & 3 {
        0 => Notice::Rejected(gufc::verdict::Answer::TcpReset),
        1 => Notice::Rejected(gufc::verdict::Answer::AdminProhibited),
        2 => Notice::HopLimitExceeded,
        _ => Notice::TooBig { mtu: how },
    };
    let from = IpAddr::V4(Ipv4Addr::from_bits(how));
    parse::<Tuple>(bytes, how)
        .and_then(|frame| frame.answer(notice, from, out).ok())
        .unwrap_or(0)
}

/// Translating to the other family, bare bytes and a frame, to any key.
///
/// # Safety
///
/// As [`slice`], for both pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_translate(
    bytes: *mut u8,
    length: usize,
    other: *mut u8,
    other_length: usize,
    how: u32,
    room: usize,
) -> u64 {
    let (bytes, other) = unsafe { (slice(bytes, length), slice(other, other_length)) };
    let Some(other) = parse::<Tuple>(other, how) else {
        return 0;
    };
    let Ok(mut frame) = Frame::<Tuple>::with_headroom(bytes, room, &arrival(how)) else {
        return 1;
    };
    let mut order = Translation::between(&frame.key(), &other.key());
    order.quoted = other.quoted();
    order.identification = how as u16;
    order.mtu = Mtus {
        v4: how >> 4,
        v6: how >> 6,
        lowest_v6: how >> 8,
    };
    let crossed = frame.translate(&order).is_ok();
    let mixed = read(&frame);
    let end = gufc::wire::translate(bytes, room..length, &arrival(how), &order)
        .map_or(0, |range| range.start as u64);
    mixed ^ end ^ u64::from(crossed)
}

/// Naming what is translated: embedded addresses, counterparts, prefix translation.
///
/// # Safety
///
/// As [`slice`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_cross(bytes: *mut u8, length: usize, how: u32) -> u64 {
    let bytes = unsafe { slice(bytes, length) };
    let Some(key) = parse::<Tuple>(bytes, how).map(|frame| frame.key()) else {
        return 0;
    };
    let (source, destination) = (key.source().address, key.destination().address);
    let (IpAddr::V6(a), IpAddr::V6(b)) = (source, destination) else {
        return 1;
    };
    let map = Cidr::new(source, how as u8)
        .zip(Cidr::new(destination, (how >> 8) as u8))
        .and_then(|(internal, external)| PrefixTranslation::new(internal, external));
    let moved = map.and_then(|map| map.inbound(map.outbound(a)?));
    let embedding = Embedding::new(b, how as u8).unwrap_or(Embedding::WELL_KNOWN);
    let crossed = embedding
        .cross(source)
        .zip(embedding.cross(destination))
        .and_then(|(source, destination)| crossed(&key, source, destination));
    let bits = moved.map_or(0, |address| address.to_bits() as u64);
    bits ^ crossed.map_or(0, |key| u64::from(key.source().port))
}

/// A TCP segment by itself.
///
/// # Safety
///
/// As [`slice`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_segment(bytes: *mut u8, length: usize, stated: u32) -> u32 {
    let bytes = unsafe { slice(bytes, length) };
    Segment::parse(bytes, stated).map_or(0, |segment| {
        segment.end().0 ^ u32::from(segment.options.length) ^ segment.payload
    })
}

/// Checksums by themselves.
///
/// # Safety
///
/// As [`slice`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_checksum(bytes: *mut u8, length: usize, old: u16, new: u16) -> u16 {
    let bytes = unsafe { slice(bytes, length) };
    checksum::update(checksum::checksum(bytes), checksum::difference(old, new))
}

/// The control: this one can panic, and the proof must notice.
///
/// # Safety
///
/// As [`slice`].
#[cfg(feature = "control")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn np_control(bytes: *mut u8, length: usize, at: usize) -> u8 {
    let bytes = unsafe { slice(bytes, length) };
    bytes[at]
}
