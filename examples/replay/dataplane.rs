//! The two dataplanes: hooks behind a flow cache, and the same hooks without one. Stateful, with a connection tracker in front,
//! or stateless.

use std::fmt::Write;
use std::time::Instant as Clock;

use gufc::cache::{Config, FlowCache, Stats};
use gufc::epoch::Change;
use gufc::hooks::conntrack::{self, Conntrack, Reason};
use gufc::hooks::filter::{EditError, Filter, Place, Policy, Rule, RuleId};
use gufc::hooks::route::{RouteError, Routes, Target};
use gufc::key::Tuple;
use gufc::packet::{Interface, Packet};
use gufc::pipeline::Walk;
use gufc::testing::uncached::Uncached;
use gufc::time::{Duration, Instant};
use gufc::verdict::{By, Outcome, Verdict};
use gufc::wire::{Frame, Losses};
use indicatif::ProgressBar;

use crate::capture::{Capture, Captured};
use crate::front::{Front, Held};
use crate::plot::Window;
use crate::stages::{Stage, Stages};

/// The hooks of both sides, without and with a tracker.
pub(crate) type Stateless = (Routes, Filter);
pub(crate) type Stateful = (Conntrack<Tuple>, Routes, Filter);
type Cache<H> = FlowCache<Tuple, H>;

/// What the example needs of its hooks.
pub(crate) trait Hooks: for<'a> Walk<Frame<'a>> + Sized {
    fn new(setup: &Setup) -> Result<Self, String>;
    fn filter(&self) -> &Filter;
    fn filter_mut(&mut self) -> &mut Filter;
    fn tracker(&self) -> Option<&Conntrack<Tuple>>;
    /// News of connections since they were last asked for, a line each.
    fn news(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl Hooks for Stateless {
    fn new(setup: &Setup) -> Result<Self, String> {
        Ok((routes().map_err(|why| why.to_string())?, setup.filter()?))
    }

    fn filter(&self) -> &Filter {
        &self.1
    }

    fn filter_mut(&mut self) -> &mut Filter {
        &mut self.1
    }

    fn tracker(&self) -> Option<&Conntrack<Tuple>> {
        None
    }
}

impl Hooks for Stateful {
    fn new(setup: &Setup) -> Result<Self, String> {
        let config = conntrack::Config {
            // As where the network card has verified them.
            checksum: false,
            news_capacity: setup.events,
            accounting: setup.list.is_some() || setup.events > 0,
            ..conntrack::Config::new(setup.sessions as u32, [0x6775_6663, 0x2012])
        };
        let tracker = Conntrack::try_new(config).map_err(|why| why.to_string())?;
        let (routes, filter) = Stateless::new(setup)?;
        Ok((tracker, routes, filter))
    }

    fn filter(&self) -> &Filter {
        &self.2
    }

    fn filter_mut(&mut self) -> &mut Filter {
        &mut self.2
    }

    fn tracker(&self) -> Option<&Conntrack<Tuple>> {
        Some(&self.0)
    }

    fn news(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.next_news())
            .map(|item| item.to_string())
            .collect()
    }
}

/// Everything that a tracker knows, to be compared.
fn known(hooks: &impl Hooks) -> String {
    let mut text = String::new();
    if let Some(tracker) = hooks.tracker() {
        for one in tracker.iter() {
            let _ = writeln!(text, "{one:?}");
        }
        for reason in Reason::ALL {
            let _ = writeln!(text, "{reason}: {}", tracker.count(reason));
        }
    }
    text
}

pub(crate) struct Setup {
    pub(crate) rules: Vec<Rule>,
    pub(crate) sessions: usize,
    pub(crate) edit_every: Option<u64>,
    /// Whether fragments are put together before the hooks.
    pub(crate) reassembles: bool,
    /// Which connections are listed at the end.
    pub(crate) list: Option<conntrack::Filter>,
    /// News of connections to keep.
    pub(crate) events: usize,
}

impl Setup {
    fn filter(&self) -> Result<Filter, String> {
        let mut filter = Filter::new("filter", self.rules.len() + 1, 7, Policy::Drop);
        let replaced = filter.replace(self.rules.clone(), Policy::Drop);
        // Nothing is cached yet, so nobody need be told.
        let ((), _change) = replaced.map_err(|why| why.to_string())?;
        Ok(filter)
    }

    fn cache<H: Hooks>(&self) -> Result<Cache<H>, String> {
        let config = Config {
            sessions: self.sessions,
            ..Config::new([0x6775_6663, 0x2006])
        };
        FlowCache::new(config, H::new(self)?).map_err(|why| why.to_string())
    }

    fn twin<H: Hooks>(&self) -> Result<Uncached<H>, String> {
        Ok(Uncached {
            hooks: H::new(self)?,
        })
    }

    /// Whether an edit comes before packet `number`.
    fn edits_before(&self, number: usize) -> bool {
        self.edit_every
            .is_some_and(|every| number > 0 && number as u64 % every == 0)
    }
}

/// The LAN and the rest of the world, as the recipe of the embedded capture has them; other captures meet the default route.
fn routes() -> Result<Routes, RouteError> {
    let mut routes = Routes::try_new(8).map_err(|_| RouteError::Full)?;
    let (inside, outside) = (
        routes.add_next_hop(Interface(1))?,
        routes.add_next_hop(Interface(2))?,
    );
    for (prefix, hop) in [
        ("10.0.0.0/8", inside),
        ("fd00::/8", inside),
        ("0.0.0.0/0", outside),
        ("::/0", outside),
    ] {
        if let Ok(prefix) = prefix.parse() {
            let (_, _change) = routes.insert(prefix, Target::Via(hop))?;
        }
    }
    Ok(routes)
}

/// The edit of `--edit-every`: a rule against one service comes and goes.
fn toggle(hooks: &mut impl Hooks) -> Result<((), Change), EditError> {
    let filter = hooks.filter_mut();
    let rule: Rule = "tcp dport 8080 drop comment \"now and then\""
        .parse()
        .unwrap_or_default();
    let held: Option<RuleId> = filter
        .rules()
        .next()
        .filter(|(_, first, _)| **first == rule)
        .map(|(id, ..)| id);
    match held {
        Some(id) => filter.remove(id).map(|(_, change)| ((), change)),
        None => filter
            .insert(Place::First, rule)
            .map(|(_, change)| ((), change)),
    }
}

/// What the verification saw.
pub(crate) struct Checked {
    pub(crate) stats: Stats,
    /// Packets that were not judged by themselves, by why.
    pub(crate) held: Vec<(Held, u64)>,
    /// Datagrams that wait for fragments at the end, and those given up.
    pub(crate) unfinished: (usize, Losses),
    pub(crate) stages: Stages,
    /// Packets by verdict, hook and rule.
    pub(crate) verdicts: Vec<((Verdict, By), u64)>,
    pub(crate) sessions: usize,
    pub(crate) session_bytes: usize,
    pub(crate) differences: u64,
    pub(crate) windows: Vec<Window>,
    pub(crate) explanation: Option<String>,
    /// What the tracker says at the end.
    pub(crate) tracked: Option<TrackerFigures>,
    /// The connections asked for, a line each, and the last news.
    pub(crate) listing: Vec<String>,
    pub(crate) events: Vec<String>,
}

/// What a tracker counted.
pub(crate) struct TrackerFigures {
    pub(crate) connections: usize,
    pub(crate) bytes: usize,
    pub(crate) reasons: Vec<(Reason, u64)>,
}

impl TrackerFigures {
    fn of(tracker: &Conntrack<Tuple>, peak: usize) -> Self {
        let reasons = Reason::ALL.map(|reason| (reason, tracker.count(reason)));
        Self {
            connections: peak,
            bytes: tracker.reserved_bytes() / tracker.config().capacity as usize,
            reasons: reasons.into_iter().filter(|(_, n)| *n > 0).collect(),
        }
    }
}

/// Plays the capture to both, packet by packet, and compares verdict, egress, mark, log and every byte; now and then, and at the
/// end, also all that the trackers know.
pub(crate) fn verify<H: Hooks>(
    setup: &Setup,
    capture: &Capture,
    explain: Option<u64>,
    progress: &ProgressBar,
) -> Result<Checked, String> {
    let (mut cache, mut twin) = (setup.cache::<H>()?, setup.twin::<H>()?);
    let mut fronts = [(); 2].map(|()| Front::new(setup.reassembles));
    let mut held: Vec<(Held, u64)> = Vec::new();
    let mut verdicts: Vec<((Verdict, By), u64)> = Vec::new();
    let mut stages = Stages::default();
    let mut differences = 0;
    let mut explanation = None;
    let mut events = Vec::new();
    let mut windows = vec![Window::default()];
    let each = capture.packets.len().div_ceil(Window::COUNT).max(1);
    let (mut peak, mut connections) = (0, 0);
    for (number, captured) in capture.packets.iter().enumerate() {
        if number > 0 && number % each == 0 {
            windows.push(Window::default());
        }
        if setup.edits_before(number) {
            cache.edit(toggle).map_err(|why| why.to_string())?;
            twin.edit(toggle).map_err(|why| why.to_string())?;
        }
        let explained = explain == Some(number as u64 + 1);
        let [cached_front, judged_front] = &mut fronts;
        let (mut cached_bytes, mut judged_bytes) = (captured.bytes.clone(), captured.bytes.clone());
        let start = Clock::now();
        let cached = cached_front.offer(captured, &mut cached_bytes, |packet| {
            let key = packet.key();
            if explained {
                explanation = Some(format!(
                    "packet {}\nbefore: {}",
                    number + 1,
                    cache.explain(packet.origin(), &key, captured.at)
                ));
            }
            let stage = Stage::of(packet, cache.hooks().tracker(), captured.at);
            let start = Clock::now();
            let outcome = cache.process(packet, captured.at);
            stages.count(stage, outcome.path);
            (outcome, key, packet.packet().to_vec(), start.elapsed())
        });
        let whole = start.elapsed();
        let (cached, key, after, cost) = match cached {
            Ok((outcome, key, after, cost)) => (outcome, key, after, cost.min(whole)),
            Err(why) => {
                let twin = judged_front.offer(captured, &mut judged_bytes, |_| ());
                if twin != Err(why) {
                    return Err(format!("packet {}: the fronts disagree", number + 1));
                }
                count(&mut held, why);
                if explained {
                    explanation = Some(format!("packet {}: not judged: {why}\n", number + 1));
                }
                continue;
            }
        };
        let judged = judged_front.offer(captured, &mut judged_bytes, |packet| {
            let start = Clock::now();
            let outcome = twin.process(packet, captured.at);
            (outcome, packet.packet().to_vec(), start.elapsed())
        });
        let uncached_cost = judged
            .as_ref()
            .map_or_else(|_| Default::default(), |(_, _, cost)| *cost);
        let last = number + 1 == capture.packets.len();
        let same = number % 256 > 0 && !last || known(cache.hooks()) == known(&twin.hooks);
        let agrees = same
            && judged
                .as_ref()
                .is_ok_and(|(outcome, bytes, _)| cached.agrees(outcome) && after == *bytes);
        if !agrees {
            differences += 1;
            if differences == 1 {
                progress.println(format!(
                    "packet {}: {key}: cached {cached:?}, uncached {judged:?}",
                    number + 1
                ));
            }
        }
        if let (Some(text), true) = (&mut explanation, explained) {
            text.push_str(&verdict_of(&cache, &key, captured, &cached));
        }
        count(&mut verdicts, (cached.verdict, cached.by));
        peak = peak.max(cache.len());
        connections = connections.max(cache.hooks().tracker().map_or(0, Conntrack::len));
        if let Some(window) = windows.last_mut() {
            window.add(cached.path.is_cached(), cost, uncached_cost);
        }
        if setup.events > 0 {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            let told = cache.edit(|hooks| {
                one.extend(hooks.news());
                Ok::<_, String>(((), Change::nothing()))
            });
            told?;
            other.extend(twin.hooks.news());
            if one != other {
                return Err(format!("packet {}: the news differ", number + 1));
            }
            events.extend(
                one.into_iter()
                    .map(|line| format!("{:>10.6} {line}", captured.at.nanos() as f64 / 1e9)),
            );
            let surplus = events.len().saturating_sub(setup.events);
            events.drain(..surplus);
        }
        progress.inc(1);
    }
    let end = capture
        .packets
        .last()
        .map_or(Instant::START, |last| last.at);
    let listing = match (setup.list, cache.hooks().tracker()) {
        (Some(filter), Some(tracker)) => tracker
            .iter()
            .filter(|one| one.end() > end && filter.matches(one))
            .map(|one| one.line(end).to_string())
            .collect(),
        _ => Vec::new(),
    };
    verdicts.sort_by_key(|(_, packets)| core::cmp::Reverse(*packets));
    Ok(Checked {
        stats: cache.stats().clone(),
        held,
        unfinished: fronts[0].unfinished(),
        stages,
        verdicts,
        sessions: peak,
        session_bytes: cache.touched_bytes() / cache.len().max(1),
        differences,
        windows,
        explanation,
        listing,
        events,
        tracked: cache
            .hooks()
            .tracker()
            .map(|tracker| TrackerFigures::of(tracker, connections)),
    })
}

/// What `--explain` says once the packet has its verdict.
fn verdict_of<H: Hooks>(
    cache: &Cache<H>,
    key: &Tuple,
    captured: &Captured,
    outcome: &Outcome,
) -> String {
    let filter = cache.hooks().filter();
    let rule = outcome
        .by
        .rule
        .and_then(|id| filter.rule(RuleId(id)))
        .map_or(String::new(), |rule| format!(": {rule}"));
    let egress = outcome.egress.map_or(String::from("none"), |egress| {
        format!("interface {}", egress.interface.0)
    });
    format!(
        "verdict: {} by {}{rule}\negress: {egress}\npath: {}\nafter: {}",
        outcome.verdict,
        outcome.by,
        outcome.path,
        cache.explain(gufc::packet::Origin::Received, key, captured.at),
    )
}

fn count<T: PartialEq>(counts: &mut Vec<(T, u64)>, what: T) {
    match counts.iter_mut().find(|(known, _)| *known == what) {
        Some((_, count)) => *count += 1,
        None => counts.push((what, 1)),
    }
}

/// Nanoseconds a packet, parsing included: medians of interleaved rounds, and the median of the rounds' ratios.
pub(crate) struct Timed {
    pub(crate) cached: f64,
    pub(crate) uncached: f64,
    pub(crate) ratio: f64,
    /// Played again to a cache that has just seen it.
    pub(crate) warm: f64,
}

/// Times whole replays, both sides in turn, each from an empty start; and the cache once more when it knows all flows.
pub(crate) fn time<H: Hooks>(
    setup: &Setup,
    capture: &Capture,
    rounds: u64,
    progress: &ProgressBar,
) -> Result<Timed, String> {
    let mut buffers: Vec<Vec<u8>> = capture
        .packets
        .iter()
        .map(|captured| captured.bytes.clone())
        .collect();
    let packets = capture.packets.len() as f64;
    let length = capture
        .packets
        .last()
        .map_or(Duration::ZERO, |last| last.at - Instant::START);
    let (mut cached, mut uncached, mut ratio, mut warm) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (mut cache, mut twin) = (setup.cache::<H>()?, setup.twin::<H>()?);
        let mut replay = |cache: &mut Cache<H>, later: Duration| {
            let mut front = Front::new(setup.reassembles);
            let start = Clock::now();
            for (number, (captured, bytes)) in capture.packets.iter().zip(&mut buffers).enumerate()
            {
                if setup.edits_before(number) {
                    cache.edit(toggle).map_err(|why| why.to_string())?;
                }
                let judged = front.offer(captured, bytes, |packet| {
                    cache.process(packet, captured.at + later)
                });
                let _ = core::hint::black_box(judged);
            }
            Ok::<f64, String>(start.elapsed().as_nanos() as f64 / packets)
        };
        cached.push(replay(&mut cache, Duration::ZERO)?);
        progress.inc(capture.packets.len() as u64);
        // Right behind the first time, so that little has idled out.
        warm.push(replay(&mut cache, length)?);
        let mut front = Front::new(setup.reassembles);
        let start = Clock::now();
        for (number, (captured, bytes)) in capture.packets.iter().zip(&mut buffers).enumerate() {
            if setup.edits_before(number) {
                twin.edit(toggle).map_err(|why| why.to_string())?;
            }
            let judged = front.offer(captured, bytes, |packet| twin.process(packet, captured.at));
            let _ = core::hint::black_box(judged);
        }
        uncached.push(start.elapsed().as_nanos() as f64 / packets);
        progress.inc(capture.packets.len() as u64);
        if let (Some(cached), Some(uncached)) = (cached.last(), uncached.last()) {
            ratio.push(uncached / cached);
        }
    }
    Ok(Timed {
        cached: median(cached),
        uncached: median(uncached),
        ratio: median(ratio),
        warm: median(warm),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
