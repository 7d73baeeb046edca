//! The route hook: longest prefix first, so that a destiny names an egress.
//!
//! A flow's step is a number, that of its next hop or of its bucket in a group of next hops. Where the next hop lies, and which
//! one stands in the bucket, are cells that are read with each packet and can be edited without touching any flow. A route
//! edit touches the flows under its prefix; those that a more specific route shields are looked at once and keep their step.
//!
//! ```text
//!  destination ── trie::prefix ──► target ── Via(3) ───────────────────────────► next hop 3: interface 2, 00:00:5e:00:53:01
//!                                        └── Group(1) ── hash of the flow: bucket 77 ──► next hop 5: ...
//!                                        └── Blackhole, Unreachable(answer)
//!                \___________ judged once a flow _____________________/  \_________ read with each packet ________/
//! ```

mod group;
mod hook;
mod table;
mod text;

pub use group::BUCKETS;
pub use text::{ParseRouteError, Route};

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::epoch::{Change, View};
use crate::key::{Cidr, Pattern, Zone};
use crate::packet::Interface;
use crate::trie::prefix::ReserveError;
use crate::verdict::Answer;
use group::Group;
use table::{NUMBERS_MAX, Table};

/// A next hop's number, given by [`Routes::add_next_hop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopId(pub u32);

/// The number of a group of next hops, given by [`Routes::add_group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// A next hop: what a packet's last steps need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The interface to send on.
    pub interface: Interface,
    /// The router's address; `None` where destinations are neighbours themselves.
    pub gateway: Option<IpAddr>,
    /// The link address to send to, if it is known.
    pub link: Option<[u8; 6]>,
}

impl From<Interface> for NextHop {
    fn from(interface: Interface) -> Self {
        Self {
            interface,
            ..Self::default()
        }
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// To this next hop.
    Via(NextHopId),
    /// To one of a group's next hops, the same for all packets of a flow.
    Group(GroupId),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told.
    Unreachable(Answer),
}

/// What a flow's entry keeps of its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// To this next hop, wherever it lies by then.
    Via(NextHopId),
    /// To whichever next hop stands in this bucket of the group by then.
    Bucket(GroupId, u8),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told.
    Unreachable(Answer),
}

/// Why an edit was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// There is no such next hop.
    NoSuchNextHop(NextHopId),
    /// There is no such group.
    NoSuchGroup(GroupId),
    /// There is no route for this prefix.
    NoSuchRoute(Cidr),
    /// The zone has no table of its own, or has one already.
    Zone(Zone),
    /// The next hop is the group's last, or not in it.
    Member(NextHopId),
    /// A route cannot give this answer.
    NoSuchAnswer,
    /// There are as many routes, next hops, groups or tables as the owner allowed.
    Full,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchNextHop(id) => write!(f, "there is no next hop {}", id.0),
            Self::NoSuchGroup(id) => write!(f, "there is no group {}", id.0),
            Self::NoSuchRoute(prefix) => write!(f, "there is no route for {prefix}"),
            Self::Zone(zone) => write!(f, "zone {} has no table, or has one already", zone.id()),
            Self::Member(id) => write!(f, "next hop {} is the group's last, or not in it", id.0),
            Self::NoSuchAnswer => f.write_str("a route cannot give this answer"),
            Self::Full => f.write_str("the table is full"),
        }
    }
}

impl core::error::Error for RouteError {}

/// How a route hook behaves besides its routes. Constant over its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What becomes of packets that no route takes: rejected with this, or dropped where it is `None`.
    pub no_route: Option<Answer>,
    /// Whether forwarded packets lose one hop (RFC 1812 section 5.3.1), and those that have none left are dropped.
    pub decrement: bool,
    /// Whether ports count when a group spreads flows. Fragments behind the first have none, so they may go another way.
    pub spread_ports: bool,
    /// Keys the hash by which groups spread flows.
    pub seed: u64,
    /// Zones that may have a table of their own.
    pub tables_max: usize,
}

impl Default for Options {
    /// [`Answer::NoRoute`], no decrement, ports count, seed 0, 256 tables.
    fn default() -> Self {
        Self {
            no_route: Some(Answer::NoRoute),
            decrement: false,
            spread_ports: true,
            seed: 0,
            tables_max: 256,
        }
    }
}

/// Static routes of both families: a main table, and tables for zones that want their own.
///
/// Packets to a local destination pass without an egress. Editing methods return the [`Change`] that
/// [`FlowCache::edit`](crate::cache::FlowCache::edit) wants.
///
/// | edit | flows touched | cost for n routes |
/// |---|---|---|
/// | [`insert`](Self::insert), [`remove`](Self::remove) | those under the prefix; the shielded keep their step | an edit of the trie |
/// | [`move_next_hop`](Self::move_next_hop) | none | O(1) |
/// | [`set_member`](Self::set_member), [`remove_member`](Self::remove_member) | none; a share of them takes another way | O([`BUCKETS`]) |
/// | [`add_table`](Self::add_table), [`remove_table`](Self::remove_table) | those of the zone | O(n) |
///
/// ```
/// use gufc::hooks::route::{Routes, Target};
/// use gufc::packet::Interface;
///
/// let mut routes = Routes::try_new(100)?;
/// let hop = routes.add_next_hop(Interface(2))?;
/// let _change = routes.insert("10.0.0.0/8".parse()?, Target::Via(hop))?;
/// assert_eq!(routes.longest("10.1.2.3".parse()?), Some(("10.0.0.0/8".parse()?, Target::Via(hop))));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Routes {
    main: Table,
    zones: BTreeMap<Zone, Table>,
    next_hops: Vec<NextHop>,
    groups: Vec<Group>,
    numbers_max: usize,
    options: Options,
}

impl Routes {
    /// A main table of at most `capacity` routes of each family, and as many next hops and groups.
    ///
    /// # Errors
    ///
    /// As [`PrefixIndex::try_new`](crate::trie::prefix::PrefixIndex::try_new).
    pub fn try_new(capacity: usize) -> Result<Self, ReserveError> {
        Self::with_options(capacity, capacity, capacity, Options::default())
    }

    /// A main table of so many routes of IPv4 and of IPv6, and so many next hops and groups, at most 2^30.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new).
    pub fn with_options(
        routes_v4: usize,
        routes_v6: usize,
        next_hops: usize,
        options: Options,
    ) -> Result<Self, ReserveError> {
        Ok(Self {
            main: Table::try_new(routes_v4, routes_v6)?,
            zones: BTreeMap::new(),
            next_hops: Vec::new(),
            groups: Vec::new(),
            numbers_max: next_hops.min(NUMBERS_MAX as usize),
            options,
        })
    }

    // Next hops and groups: cells.

    /// Adds a next hop.
    ///
    /// # Errors
    ///
    /// [`RouteError::Full`].
    pub fn add_next_hop(&mut self, hop: impl Into<NextHop>) -> Result<NextHopId, RouteError> {
        if self.next_hops.len() >= self.numbers_max {
            return Err(RouteError::Full);
        }
        self.next_hops.push(hop.into());
        Ok(NextHopId(self.next_hops.len() as u32 - 1))
    }

    /// A next hop as it is now.
    pub fn next_hop(&self, id: NextHopId) -> Option<&NextHop> {
        self.next_hops.get(id.0 as usize)
    }

    /// Moves a next hop: another interface, router or link address. No flow is touched: each packet reads the cell.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchNextHop`].
    pub fn move_next_hop(
        &mut self,
        id: NextHopId,
        hop: impl Into<NextHop>,
    ) -> Result<((), Change), RouteError> {
        let cell = self
            .next_hops
            .get_mut(id.0 as usize)
            .ok_or(RouteError::NoSuchNextHop(id))?;
        *cell = hop.into();
        Ok(((), Change::nothing()))
    }

    /// Adds a group of one next hop, of weight 1.
    ///
    /// # Errors
    ///
    /// [`RouteError::Full`] or [`RouteError::NoSuchNextHop`].
    pub fn add_group(&mut self, first: NextHopId) -> Result<GroupId, RouteError> {
        self.next_hop(first)
            .ok_or(RouteError::NoSuchNextHop(first))?;
        if self.groups.len() >= self.numbers_max {
            return Err(RouteError::Full);
        }
        self.groups.push(Group::new(first, 1));
        Ok(GroupId(self.groups.len() as u32 - 1))
    }

    /// The members of a group, each with its weight.
    pub fn members(&self, id: GroupId) -> Option<&[(NextHopId, u16)]> {
        Some(self.groups.get(id.0 as usize)?.members())
    }

    /// Adds a member to a group, or gives it another weight. A share of the flows goes its way from then on, and no flow's entry
    /// is touched.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchGroup`], [`RouteError::NoSuchNextHop`]; [`RouteError::Full`] beyond [`BUCKETS`] members.
    pub fn set_member(
        &mut self,
        id: GroupId,
        member: NextHopId,
        weight: u16,
    ) -> Result<((), Change), RouteError> {
        self.next_hop(member)
            .ok_or(RouteError::NoSuchNextHop(member))?;
        let group = self
            .groups
            .get_mut(id.0 as usize)
            .ok_or(RouteError::NoSuchGroup(id))?;
        let known = group.members().iter().any(|(other, _)| *other == member);
        if !known && group.members().len() >= BUCKETS {
            return Err(RouteError::Full);
        }
        group.set(member, weight);
        Ok(((), Change::nothing()))
    }

    /// Takes a member out of a group; its flows are spread over the others, whose flows stay.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchGroup`]; [`RouteError::Member`] when it is not in the group, or the last in it.
    pub fn remove_member(
        &mut self,
        id: GroupId,
        member: NextHopId,
    ) -> Result<((), Change), RouteError> {
        let group = self
            .groups
            .get_mut(id.0 as usize)
            .ok_or(RouteError::NoSuchGroup(id))?;
        if group.remove(member) {
            Ok(((), Change::nothing()))
        } else {
            Err(RouteError::Member(member))
        }
    }

    // Tables.

    /// Gives a zone a table of its own, empty and for so many routes of IPv4 and IPv6: no route of the main table takes its
    /// packets from then on.
    ///
    /// # Errors
    ///
    /// [`RouteError::Zone`] when it has one; [`RouteError::Full`] when there are too many, or memory is short.
    pub fn add_table(
        &mut self,
        zone: Zone,
        routes_v4: usize,
        routes_v6: usize,
    ) -> Result<((), Change), RouteError> {
        if self.zones.contains_key(&zone) {
            return Err(RouteError::Zone(zone));
        }
        if self.zones.len() >= self.options.tables_max {
            return Err(RouteError::Full);
        }
        let table = Table::try_new(routes_v4, routes_v6).map_err(|_| RouteError::Full)?;
        self.zones.insert(zone, table);
        Ok(((), touched(None, Some(zone))))
    }

    /// Takes a zone's table away: the main table is in force again.
    ///
    /// # Errors
    ///
    /// [`RouteError::Zone`] when it has none.
    pub fn remove_table(&mut self, zone: Zone) -> Result<((), Change), RouteError> {
        self.zones.remove(&zone).ok_or(RouteError::Zone(zone))?;
        Ok(((), touched(None, Some(zone))))
    }

    // Routes.

    /// Adds a route to the main table, or replaces that of the same prefix; gives what was there.
    ///
    /// # Errors
    ///
    /// [`RouteError::Full`], [`RouteError::NoSuchNextHop`] or [`RouteError::NoSuchGroup`]; nothing has changed.
    ///
    /// Cost: as [`PrefixIndex::insert`](crate::trie::prefix::PrefixIndex::insert).
    pub fn insert(
        &mut self,
        prefix: Cidr,
        target: Target,
    ) -> Result<(Option<Target>, Change), RouteError> {
        self.add(Route {
            prefix,
            target,
            zone: None,
        })
    }

    /// [`insert`](Self::insert) into the table that the route names.
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert); [`RouteError::Zone`] when the zone has no table of its own.
    pub fn add(&mut self, route: Route) -> Result<(Option<Target>, Change), RouteError> {
        match route.target {
            Target::Via(id) => {
                self.next_hop(id).ok_or(RouteError::NoSuchNextHop(id))?;
            }
            Target::Group(id) => {
                self.members(id).ok_or(RouteError::NoSuchGroup(id))?;
            }
            _ => {}
        }
        let old = self
            .table_mut(route.zone)?
            .insert(route.prefix, route.target)?;
        let change = if old == Some(route.target) {
            Change::nothing()
        } else {
            touched(Some(route.prefix), route.zone)
        };
        Ok((old, change))
    }

    /// Takes a route out of the main table and gives what it did.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchRoute`].
    ///
    /// Cost: as [`PrefixIndex::remove`](crate::trie::prefix::PrefixIndex::remove).
    pub fn remove(&mut self, prefix: Cidr) -> Result<(Target, Change), RouteError> {
        self.remove_in(None, prefix)
    }

    /// [`remove`](Self::remove) from a zone's table.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchRoute`]; [`RouteError::Zone`] when the zone has no table of its own.
    pub fn remove_in(
        &mut self,
        zone: Option<Zone>,
        prefix: Cidr,
    ) -> Result<(Target, Change), RouteError> {
        let target = self
            .table_mut(zone)?
            .remove(prefix)
            .ok_or(RouteError::NoSuchRoute(prefix))?;
        Ok((target, touched(Some(prefix), zone)))
    }

    /// The main table's route of exactly this prefix.
    pub fn get(&self, prefix: Cidr) -> Option<Target> {
        self.main.get(prefix)
    }

    /// The main table's route of the longest prefix that holds an address.
    pub fn longest(&self, address: IpAddr) -> Option<(Cidr, Target)> {
        self.main.longest(address)
    }

    /// The route that packets of a zone to an address take: of the zone's table, or of the main one where it has none.
    pub fn longest_in(&self, zone: Zone, address: IpAddr) -> Option<(Cidr, Target)> {
        self.table_of(zone).longest(address)
    }

    /// All routes in the order of their prefixes, IPv4 first; those of the main table, then each zone's.
    pub fn iter(&self) -> impl Iterator<Item = Route> {
        let main = core::iter::once((None, &self.main));
        let zones = self.zones.iter().map(|(zone, table)| (Some(*zone), table));
        main.chain(zones).flat_map(|(zone, table)| {
            table.iter().map(move |(prefix, target)| Route {
                prefix,
                target,
                zone,
            })
        })
    }

    /// How many routes there are in all tables.
    pub fn len(&self) -> usize {
        self.main.len() + self.zones.values().map(Table::len).sum::<usize>()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that routes have taken. Cost: O(n).
    pub fn bytes(&self) -> usize {
        let tables = core::iter::once(&self.main).chain(self.zones.values());
        tables.map(Table::bytes).sum()
    }

    fn table_mut(&mut self, zone: Option<Zone>) -> Result<&mut Table, RouteError> {
        match zone {
            None => Ok(&mut self.main),
            Some(zone) => self.zones.get_mut(&zone).ok_or(RouteError::Zone(zone)),
        }
    }

    fn table_of(&self, zone: Zone) -> &Table {
        if self.zones.is_empty() {
            return &self.main;
        }
        self.zones.get(&zone).unwrap_or(&self.main)
    }
}

const NAME: &str = "route";

/// The flows to a prefix, or to all.
fn touched(prefix: Option<Cidr>, zone: Option<Zone>) -> Change {
    let pattern = Pattern {
        destination: prefix,
        zone,
        ..Pattern::ANY
    };
    Change::nothing().touches(NAME, View::Routed, pattern)
}
