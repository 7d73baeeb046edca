//! Rules written as text, in the words in which they are read.

use alloc::string::String;
use core::fmt;

use super::rule::{Action, Classes, Conditions, FlagTest, Masked, Rule, StatusTest};
use super::set::SetField;
use super::text::icmp_types;
use crate::hook::Direction;
use crate::key::{Family, Ports};
use crate::packet::{Interface, TcpFlags};

/// Writes the rule so that it can be read again.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer { f, first: true };
        let pattern = &self.pattern;
        let ip = |family| if family == Family::V4 { "ip" } else { "ip6" };
        let holes = || self.except.iter();
        let sides = || pattern.source.iter().chain(&pattern.destination);
        let negated_sides = || holes().flat_map(|hole| hole.source.iter().chain(&hole.destination));
        let side_sets = || self.sets.iter().filter(|test| !test.field.is_port());
        if let Some(family) = pattern.family {
            let named = sides().chain(negated_sides()).next().is_some();
            if !named && side_sets().next().is_none() {
                out.put(format_args!(
                    "meta nfproto {}",
                    if family == Family::V4 { "ipv4" } else { "ipv6" }
                ))?;
            }
        }
        for (box_, not) in [(pattern, "")]
            .into_iter()
            .chain(holes().map(|hole| (hole, "!= ")))
        {
            if let Some(prefix) = box_.source {
                out.put(format_args!("{} saddr {not}{prefix}", ip(prefix.family())))?;
            }
            if let Some(prefix) = box_.destination {
                out.put(format_args!("{} daddr {not}{prefix}", ip(prefix.family())))?;
            }
            if let (Some(protocol), false) = (box_.protocol, not.is_empty()) {
                out.put(format_args!("meta l4proto {not}{protocol}"))?;
            }
        }
        for test in side_sets() {
            let family = pattern.implied_family().unwrap_or(Family::V4);
            let source = test.field == SetField::Source;
            let end = if source { "saddr" } else { "daddr" };
            let not = if test.negated { "!= " } else { "" };
            out.put(format_args!("{} {end} {not}@{}", ip(family), test.set))?;
        }
        self.write_protocol(&mut out)?;
        for (end, local) in [
            ("saddr", pattern.source_local),
            ("daddr", pattern.destination_local),
        ] {
            if let Some(local) = local {
                out.put(format_args!(
                    "fib {end} type {}local",
                    if local { "" } else { "!= " }
                ))?;
            }
        }
        if let Some(zone) = pattern.zone {
            out.put(format_args!("zone {}", zone.id()))?;
        }
        self.write_conditions(&mut out)?;
        if let Some(mark) = self.set_mark {
            out.put(format_args!("meta mark set {mark:#x}"))?;
        }
        if self.log {
            out.put(format_args!("log"))?;
        }
        match self.action {
            Action::Continue => out.put(format_args!("continue"))?,
            Action::Accept => out.put(format_args!("accept"))?,
            Action::Drop => out.put(format_args!("drop"))?,
            Action::Reject(answer) => out.put(format_args!("reject with {answer}"))?,
            Action::Jump(chain) => out.put(format_args!("jump {chain}"))?,
            Action::Goto(chain) => out.put(format_args!("goto {chain}"))?,
            Action::Return => out.put(format_args!("return"))?,
        }
        match &self.comment {
            Some(comment) => out.put(format_args!("comment \"{comment}\"")),
            None => Ok(()),
        }
    }
}

impl Rule {
    /// Protocol, ports or ICMP type, and the ports excluded.
    fn write_protocol(&self, out: &mut Writer<'_, '_>) -> fmt::Result {
        let Some(protocol) = self.pattern.protocol else {
            return Ok(());
        };
        let boxes = || {
            [(&self.pattern, "")]
                .into_iter()
                .chain(self.except.iter().map(|hole| (hole, "!= ")))
        };
        let mut named = self.conditions.flags.is_some();
        if protocol.is_icmp() {
            let types = self.pattern.destination_ports;
            if types != Ports::ALL {
                named = true;
                let kind = (types.first >> 8) as u8;
                match icmp_types(protocol)
                    .iter()
                    .find(|(number, _)| *number == kind)
                {
                    Some((_, name)) => out.put(format_args!("{protocol} type {name}"))?,
                    None => out.put(format_args!("{protocol} type {kind}"))?,
                }
                if types.first == types.last {
                    out.put(format_args!("{protocol} code {}", types.first & 0xff))?;
                }
            }
            if self.pattern.source_ports != Ports::ALL {
                named = true;
                out.put(format_args!("{protocol} id {}", self.pattern.source_ports))?;
            }
        } else {
            for (box_, not) in boxes() {
                for (end, ports) in [
                    ("sport", box_.source_ports),
                    ("dport", box_.destination_ports),
                ] {
                    if ports != Ports::ALL {
                        named = true;
                        out.put(format_args!("{protocol} {end} {not}{ports}"))?;
                    }
                }
            }
        }
        for test in self.sets.iter().filter(|test| test.field.is_port()) {
            named = true;
            let source = test.field == SetField::SourcePort;
            let end = if source { "sport" } else { "dport" };
            let not = if test.negated { "!= " } else { "" };
            out.put(format_args!("{protocol} {end} {not}@{}", test.set))?;
        }
        if named {
            Ok(())
        } else {
            out.put(format_args!("meta l4proto {protocol}"))
        }
    }

    fn write_conditions(&self, out: &mut Writer<'_, '_>) -> fmt::Result {
        let Conditions {
            flags,
            length,
            ingress,
            egress,
            mark,
            track_mark,
            classes,
            direction,
            status,
            track_zone,
        } = self.conditions;
        match flags {
            Some(FlagTest::Any(any)) => out.put(format_args!("tcp flags {any}"))?,
            Some(FlagTest::Exactly {
                mask: TcpFlags(0xff),
                value,
            }) if value != TcpFlags::NONE => {
                out.put(format_args!("tcp flags == {value}"))?;
            }
            Some(FlagTest::Exactly { mask, value }) => {
                out.put(format_args!("tcp flags {value} / {mask}"))?
            }
            None => {}
        }
        if let Some((least, most)) = length {
            if least == most {
                out.put(format_args!("meta length {least}"))?;
            } else {
                out.put(format_args!("meta length {least}-{most}"))?;
            }
        }
        if let Some(Interface(number)) = ingress {
            out.put(format_args!("iif {number}"))?;
        }
        if let Some(Interface(number)) = egress {
            out.put(format_args!("oif {number}"))?;
        }
        for (what, test) in [("meta", mark), ("ct", track_mark)] {
            match test {
                Some(Masked {
                    mask: u32::MAX,
                    value,
                }) => out.put(format_args!("{what} mark {value:#x}"))?,
                Some(Masked { mask, value }) => {
                    out.put(format_args!("{what} mark {value:#x}/{mask:#x}"))?
                }
                None => {}
            }
        }
        if let Some(classes) = classes {
            let names = Classes::NAMES
                .iter()
                .filter(|(class, _)| classes.contains(*class));
            let mut text = String::new();
            for (_, name) in names {
                if !text.is_empty() {
                    text.push(',');
                }
                text.push_str(name);
            }
            out.put(format_args!("ct state {text}"))?;
        }
        match direction {
            Some(Direction::Original) => out.put(format_args!("ct direction original"))?,
            Some(Direction::Reply) => out.put(format_args!("ct direction reply"))?,
            None => {}
        }
        if let Some(StatusTest { mask, value }) = status {
            let (bits, mask) = (Statuses(value.unwrap_or(mask)), Statuses(mask));
            match value {
                None => out.put(format_args!("ct status {bits}"))?,
                Some(_) => out.put(format_args!("ct status {bits} / {mask}"))?,
            }
        }
        match track_zone {
            Some(zone) => out.put(format_args!("ct zone {}", zone.id())),
            None => Ok(()),
        }
    }
}

struct Statuses(u16);

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joint = "";
        let named = StatusTest::NAMES.iter();
        for (_, name) in named.filter(|(bit, _)| self.0 & bit != 0) {
            write!(f, "{joint}{name}")?;
            joint = ",";
        }
        f.write_str(if joint.is_empty() { "none" } else { "" })
    }
}

struct Writer<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    first: bool,
}

impl Writer<'_, '_> {
    fn put(&mut self, words: fmt::Arguments<'_>) -> fmt::Result {
        if !core::mem::take(&mut self.first) {
            self.f.write_str(" ")?;
        }
        self.f.write_fmt(words)
    }
}
