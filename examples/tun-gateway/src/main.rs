//! A gateway between two TUN devices: the flow cache in a real packet's way.
//!
//! Two threads read packets, one owns the cache and writes them out again. What the library leaves to its caller is here:
//! devices, time, and the answers to packets that end.

mod dataplane;

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use clap::Parser;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use dataplane::{Dataplane, Side};

/// Packets that wait for the cache.
const QUEUE: usize = 1024;
/// Bytes of the largest packet.
const PACKET_MAX: usize = 65_535;

/// Forward between two TUN devices, statefully, through a flow cache; end when standard input ends, and say what was done.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Device to the protected side.
    #[arg(long, default_value = "gufc-inside")]
    inside: String,
    /// Device to the rest of the world.
    #[arg(long, default_value = "gufc-outside")]
    outside: String,
    /// Largest packet that leaves to the outside.
    #[arg(long, default_value_t = 1400, value_parser = clap::value_parser!(u16).range(1280..))]
    mtu: u16,
    /// Translate: who is inside leaves as the gateway, whose port 8080 is a service inside.
    #[arg(long)]
    masquerade: bool,
}

/// What reaches the thread that owns the cache.
enum Event {
    Packet(Side, Vec<u8>),
    End,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tun-gateway: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut dataplane = Dataplane::new(arguments.mtu, arguments.masquerade)?;
    let inside = open(&arguments.inside)?;
    let outside = open(&arguments.outside)?;
    let (sender, events) = sync_channel(QUEUE);
    for (side, device) in [(Side::Inside, &inside), (Side::Outside, &outside)] {
        let (device, sender) = (Arc::clone(device), sender.clone());
        thread::spawn(move || read(side, &device, &sender));
    }
    thread::spawn(move || {
        // Whatever stands there, and an error too, is the end of it.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = sender.send(Event::End);
    });
    println!("ready");
    while let Ok(Event::Packet(side, mut bytes)) = events.recv() {
        let Some((to, packet)) = dataplane.process(side, &mut bytes) else {
            continue;
        };
        let device = match to {
            Side::Inside => &inside,
            Side::Outside => &outside,
        };
        // A device that takes nothing loses the packet, as a wire would.
        let _ = device.send(packet);
    }
    println!("{dataplane}");
    Ok(())
}

fn open(name: &str) -> Result<Arc<SyncDevice>, String> {
    let device = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L3)
        .build_sync();
    device.map(Arc::new).map_err(|why| format!("{name}: {why}"))
}

fn read(side: Side, device: &SyncDevice, sender: &SyncSender<Event>) {
    let mut bytes = vec![0; PACKET_MAX];
    // A device may be down until somebody has moved it where it belongs.
    loop {
        match device.recv(&mut bytes) {
            Ok(length) => {
                if sender
                    .send(Event::Packet(side, bytes[..length].to_vec()))
                    .is_err()
                {
                    return;
                }
            }
            Err(_) => thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
}
