//! Prefix translation between IPv6 networks without state (NPTv6, RFC 6296).
//!
//! Apart from other translation because it keeps nothing: each address of one prefix has one of the other, both ways, and no
//! checksum changes. So it needs no tracker, and may stand before one.
//!
//! ```text
//!  stage    Track (before a tracker)                        Source
//!           destination external ─► internal                source internal ─► external, towards the outside
//!
//!  a tracker behind it sees internal addresses, in both directions
//! ```
//!
//! ICMPv6 errors are translated with the packet that they quote. What cannot be mapped (an internal subnet of 0xffff) is
//! rejected with "address unreachable" (RFC 6296 sections 3.4 and 3.5). A packet from inside to an external address of the same
//! network is turned back with both ends mapped (hairpinning, section 4.3).

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::net::{IpAddr, Ipv6Addr};

use super::action::{Action, End};
use super::rules::{EditError, Rule};
use crate::epoch::{Change, View};
use crate::hook::{
    Caching, Context, Hook, Interests, Judge, Judgement, Recheck, Rejudged, Stage, Stages,
};
use crate::hooks::filter;
use crate::interest::Trigger;
use crate::key::{Cidr, Endpoint, Family, FlowKey, Pattern, PrefixTranslation};
use crate::packet::{Interface, Packet, Rewrite};
use crate::verdict::{Answer, By, Verdict};

/// What the hook is called.
const NAME: &str = "npt";

const BY: By = By {
    hook: NAME,
    rule: None,
};

/// One pair of prefixes, and the interface that the external one is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Site {
    map: PrefixTranslation,
    outside: Interface,
}

/// What has been counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NptCounters {
    /// Packets that an end was mapped of.
    pub mapped: u64,
    /// Packets rejected because an address cannot be mapped.
    pub unmappable: u64,
    /// ICMPv6 errors dropped because what they quote cannot be translated.
    pub errors_dropped: u64,
}

/// A stateless translator of IPv6 prefixes.
///
/// Its rules are those of [`Nat`](super::Nat) that change a source's prefix towards an interface; the way back is implied.
///
/// ```
/// use gufc::hooks::nat::Npt;
/// use gufc::key::Tuple;
///
/// let mut npt: Npt<Tuple> = Npt::new();
/// npt.insert("ip6 saddr fd01:203:405::/48 oif 2 snat prefix to 2001:db8:1::/48".parse()?)?;
/// assert_eq!(npt.rules().next().map(|rule| rule.to_string()).as_deref(),
///     Some("ip6 saddr fd01:203:405::/48 oif 2 snat prefix to 2001:db8:1::/48"));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Npt<K> {
    sites: Vec<Site>,
    counters: NptCounters,
    keys: PhantomData<fn(K) -> K>,
}

impl<K: FlowKey> Default for Npt<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// What it leaves in a flow's destiny: the new key at either of its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NptStep<K> {
    /// The change of the destination.
    pub destination: Option<Rewrite<K>>,
    /// The change of the source.
    pub source: Option<Rewrite<K>>,
    /// Where it left when that was worked out.
    pub egress: Option<Interface>,
}

impl<K: FlowKey> Npt<K> {
    /// Without rules.
    pub const fn new() -> Self {
        Self {
            keys: PhantomData,
            sites: Vec::new(),
            counters: NptCounters {
                mapped: 0,
                unmappable: 0,
                errors_dropped: 0,
            },
        }
    }

    /// Adds a rule: `ip6 saddr INTERNAL oif OUTSIDE snat prefix to EXTERNAL`. Both prefixes are at most 64 bits long; the
    /// shorter is taken to be as long as the longer.
    ///
    /// # Errors
    ///
    /// [`EditError::Action`] where the rule says anything else, or its external prefix overlaps another rule's, or its internal one
    /// that of another rule for the same interface; nothing has changed.
    ///
    /// Cost: O(rules). So is that of a new flow: sites have a handful.
    pub fn insert(&mut self, rule: Rule) -> Result<Change, EditError> {
        let Action::Netmap(End::Source, external) = rule.action else {
            return Err(EditError::Action);
        };
        let internal = rule.matches.pattern.source;
        let outside = rule.matches.conditions.egress;
        let map = internal.and_then(|internal| PrefixTranslation::new(internal, external));
        let (Some(map), Some(outside), Some(internal)) = (map, outside, internal) else {
            return Err(EditError::Action);
        };
        let said = matches(internal, outside);
        let pattern = Pattern {
            family: None,
            ..rule.matches.pattern
        };
        if said.pattern != pattern
            || said.conditions != rule.matches.conditions
            || rule.matches.except != said.except
        {
            return Err(EditError::Action);
        }
        let site = Site { map, outside };
        let clashes = |other: &Site| {
            overlap(other.map.external(), map.external())
                || other.outside == outside && overlap(other.map.internal(), map.internal())
        };
        if self.sites.iter().any(clashes) {
            return Err(EditError::Action);
        }
        self.sites.push(site);
        Ok(touched(&site))
    }

    /// Takes the rule of an external prefix out again.
    ///
    /// # Errors
    ///
    /// [`EditError::Action`] where there is none.
    pub fn remove(&mut self, external: Cidr) -> Result<Change, EditError> {
        let found = |site: &Site| site.map.external() == external;
        let at = self.sites.iter().position(found).ok_or(EditError::Action)?;
        Ok(touched(&self.sites.remove(at)))
    }

    /// The rules, in the order in which they were added.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        self.sites.iter().map(|site| Rule {
            matches: matches(site.map.internal(), site.outside),
            action: Action::Netmap(End::Source, site.map.external()),
        })
    }

    /// What has been counted.
    pub const fn counters(&self) -> NptCounters {
        self.counters
    }

    /// The pair of prefixes whose external one an address has.
    fn of_external(&self, address: Ipv6Addr) -> Option<&Site> {
        let has = |site: &&Site| site.map.external().contains(IpAddr::V6(address));
        self.sites.iter().find(has)
    }

    /// The pair whose internal one an address has, towards an interface; `None` for it: any.
    fn of_internal(&self, address: Ipv6Addr, towards: Option<Interface>) -> Option<&Site> {
        self.sites.iter().find(|site| {
            site.map.internal().contains(IpAddr::V6(address))
                && towards.is_none_or(|interface| interface == site.outside)
        })
    }

    /// The key with its destination inside, where it is outside.
    fn inbound(&self, key: &K) -> Result<Option<K>, Unmappable> {
        let end = key.destination();
        let IpAddr::V6(address) = end.address else {
            return Ok(None);
        };
        let Some(site) = self.of_external(address) else {
            return Ok(None);
        };
        let inside = site.map.inbound(address).ok_or(Unmappable)?;
        Ok(key.with(key.source(), Endpoint::new(inside.into(), end.port)))
    }

    /// The key with its source outside, where it is inside and leaves.
    fn outbound(&self, key: &K, towards: Option<Interface>) -> Result<Option<K>, Unmappable> {
        let end = key.source();
        let IpAddr::V6(address) = end.address else {
            return Ok(None);
        };
        let Some(site) = self.of_internal(address, towards) else {
            return Ok(None);
        };
        let outside = site.map.outbound(address).ok_or(Unmappable)?;
        Ok(key.with(Endpoint::new(outside.into(), end.port), key.destination()))
    }

    /// What the source becomes at the last stage.
    fn leaving(&self, key: &K, turned: bool, egress: Option<Interface>) -> Leaving<K> {
        // Turned back it leaves by an inner interface, and must not look like a neighbour: replies have to come back here.
        let towards = if turned { None } else { egress };
        if towards.is_none() && !turned {
            return Ok(None);
        }
        let to = self.outbound(key, towards)?;
        Ok(to.map(|to| Rewrite::between(key, &to)))
    }

    /// Translates a packet at one stage; the verdict where it ends here.
    fn map<P: Packet<Key = K>>(
        &mut self,
        stage: Stage,
        rewrite: &Rewrite<K>,
        packet: &mut P,
    ) -> Option<Verdict> {
        // What an error quotes went the other way: its source is mapped like this packet's destination.
        let quoted = if packet.key().protocol().is_icmp() {
            packet.quoted()
        } else {
            None
        };
        if let Some(quoted) = quoted {
            let turned = |key: &K| key.with(key.destination(), key.source());
            let mapped = turned(&quoted).and_then(|answer| {
                let mapped = match stage {
                    Stage::Source => self.outbound(&answer, None),
                    _ => self.inbound(&answer),
                };
                turned(&mapped.ok()??)
            });
            // One that is none of ours stays as it is.
            let done = mapped
                .is_none_or(|mapped| packet.rewrite_quoted(&Rewrite::between(&quoted, &mapped)));
            if !done {
                self.counters.errors_dropped += 1;
                return Some(Verdict::Drop);
            }
        }
        packet.rewrite(rewrite);
        self.counters.mapped += 1;
        None
    }

    fn reject(&mut self) -> Verdict {
        self.counters.unmappable += 1;
        Verdict::Reject(Answer::HostUnreachable)
    }
}

/// The address has no counterpart.
#[derive(Clone, Copy, Debug)]
struct Unmappable;

/// What a rule matches.
fn matches(internal: Cidr, outside: Interface) -> filter::Rule {
    let mut rule = filter::Rule {
        pattern: Pattern {
            source: Some(internal),
            ..Pattern::ANY
        },
        ..filter::Rule::default()
    };
    rule.conditions.egress = Some(outside);
    rule
}

/// The flows that a rule is about.
fn touched(site: &Site) -> Change {
    let inside = Pattern {
        source: Some(site.map.internal()),
        ..Pattern::ANY
    };
    let outside = Pattern {
        destination: Some(site.map.external()),
        ..Pattern::ANY
    };
    Change::nothing()
        .touches(NAME, View::Arrived, inside)
        .touches(NAME, View::Arrived, outside)
}

fn overlap(one: Cidr, other: Cidr) -> bool {
    one.contains(other.address()) || other.contains(one.address())
}

type Leaving<K> = Result<Option<Rewrite<K>>, Unmappable>;

impl<K: FlowKey> Hook for Npt<K> {
    type Step = NptStep<K>;

    fn name(&self) -> &'static str {
        NAME
    }

    #[inline]
    fn stages(&self) -> Stages {
        Stages::of(Stage::Track).and(Stage::Source)
    }

    fn interests(&self) -> Interests<'_> {
        Interests::Ask
    }

    fn describe(&self, step: &NptStep<K>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rewrite) = &step.destination {
            let address = rewrite.to.destination().address;
            write!(f, "destination becomes {address} ")?;
        }
        match &step.source {
            Some(rewrite) => write!(f, "source becomes {}", rewrite.to.source().address),
            None if step.destination.is_none() => f.write_str("stays"),
            None => Ok(()),
        }
    }
}

impl<P: Packet> Judge<P> for Npt<P::Key> {
    fn have_interest(&self, flow: &P::Key) -> Option<Trigger> {
        let fields = flow.fields();
        if fields.family != Family::V6 || self.sites.is_empty() {
            return None;
        }
        let (source, destination) = (fields.source.into(), fields.destination.into());
        let ours =
            self.of_internal(source, None).is_some() || self.of_external(destination).is_some();
        ours.then_some(Trigger::NONE)
    }

    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<NptStep<P::Key>>,
    ) -> Judgement {
        let key = packet.key();
        let found = if stage == Stage::Source {
            let turned = step.as_ref().is_some_and(|step| step.destination.is_some());
            let egress = context.egress.map(|egress| egress.interface);
            let source = self.leaving(&key, turned, egress);
            if let (Some(step), Ok(source)) = (step, source) {
                (step.source, step.egress) = (source, egress);
            }
            source
        } else {
            let to = self.inbound(&key);
            let destination = to.map(|to| to.map(|to| Rewrite::between(&key, &to)));
            *step = Some(NptStep {
                destination: destination.unwrap_or(None),
                source: None,
                egress: None,
            });
            destination
        };
        let verdict = match found {
            Ok(None) => None,
            Ok(Some(rewrite)) => self.map(stage, &rewrite, packet),
            Err(Unmappable) => Some(self.reject()),
        };
        match verdict {
            None => Judgement::Continue,
            Some(verdict) => {
                context.caching.forbid(Caching::Forbidden);
                context.by = BY;
                Judgement::Finish {
                    verdict,
                    constant: false,
                }
            }
        }
    }

    #[inline]
    fn run(
        &mut self,
        stage: Stage,
        step: &NptStep<P::Key>,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        let rewrite = if stage == Stage::Source {
            let egress = context.egress.map(|egress| egress.interface);
            if egress == step.egress {
                step.source
            } else {
                // Another way out than when it was judged.
                match self.leaving(&packet.key(), step.destination.is_some(), egress) {
                    Ok(source) => source,
                    Err(Unmappable) => {
                        context.by = BY;
                        return Some(self.reject());
                    }
                }
            }
        } else {
            step.destination
        };
        let verdict = self.map(stage, &rewrite?, packet)?;
        context.by = BY;
        Some(verdict)
    }

    fn rejudge(
        &self,
        stage: Stage,
        packet: &P,
        context: &Context,
        step: Option<&NptStep<P::Key>>,
    ) -> Option<Rejudged> {
        let (step, key) = (step?, packet.key());
        let egress = context.egress.map(|egress| egress.interface);
        let keeps = match stage {
            Stage::Source if egress != step.egress => true,
            Stage::Source => {
                let turned = step.destination.is_some();
                self.leaving(&key, turned, egress).ok()? == step.source
            }
            _ => {
                let to = self.inbound(&key).ok()?;
                to.map(|to| Rewrite::between(&key, &to)) == step.destination
            }
        };
        let verdict = None;
        Some(Rejudged { keeps, verdict })
    }

    fn recheck(&mut self, _: Option<&NptStep<P::Key>>, _: &P::Key) -> Recheck<NptStep<P::Key>> {
        // What the tracker and the hooks behind it see changes, too.
        Recheck::JudgeAll
    }
}
