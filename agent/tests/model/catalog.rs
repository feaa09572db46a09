//! What is offered, and what happens: plain values that a seed gives.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use waypost::model::{Attributes, Instance, Readiness, Service, Services, Transport};

use crate::chance::Chance;
use crate::world::Mode;

/// Names of services; two of them get the same section.
pub(crate) const NAMES: [&str; 7] = ["a", "b", "c", "team/app", "team_app", "db", "odd"];
const DOMAINS: [&str; 4] = ["x.example", "y.example", "z.example", "*.example"];
const PATHS: [&str; 4] = ["", "", "/p", "/q"];
const PORTS: [u16; 3] = [7001, 7002, 7003];

/// What a service offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) domains: Vec<&'static str>,
    pub(crate) path: &'static str,
    /// The port of a tcp service; 0 for one that names none.
    pub(crate) port: Option<u16>,
    pub(crate) members: BTreeMap<u8, Member>,
}

/// An instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) address: u8,
    pub(crate) weight: Option<u16>,
    pub(crate) drains: bool,
}

impl Offer {
    fn by_chance(chance: &mut Chance, is_tcp: bool) -> Self {
        let mut domains = vec![chance.of(&DOMAINS)];
        if chance.once_in(4) {
            domains.push(chance.of(&DOMAINS));
        }
        domains.sort_unstable();
        domains.dedup();
        let port = is_tcp.then(|| if chance.once_in(8) { 0 } else { chance.of(&PORTS) });
        let member = |number: u64| (u8::try_from(number).unwrap(), Member { address: 1, weight: None, drains: false });
        Offer { domains, path: chance.of(&PATHS), port, members: (0..=chance.below(2)).map(member).collect() }
    }

    /// Something about it changes.
    fn change(&mut self, chance: &mut Chance) {
        let id = u8::try_from(chance.below(4)).unwrap();
        let any = *self.members.keys().next().unwrap();
        match chance.below(12) {
            0..=2 => _ = self.members.insert(id, Member { address: 1, weight: None, drains: false }),
            3 | 4 if self.members.len() > 1 => _ = self.members.remove(&any),
            5 => self.members.get_mut(&any).unwrap().drains ^= true,
            6 => self.members.get_mut(&any).unwrap().address ^= 3,
            7 => *self = Offer { members: self.members.clone(), ..Offer::by_chance(chance, self.port.is_some()) },
            8 if chance.once_in(2) => {
                *self = Offer { members: self.members.clone(), ..Offer::by_chance(chance, self.port.is_none()) };
            }
            9 | 10 => self.members.get_mut(&any).unwrap().weight = Some(chance.of(&[13, 14, 15])),
            _ => self.members.get_mut(&any).unwrap().weight = chance.of(&[None, Some(0), Some(7)]),
        }
    }

    /// What only one service can have.
    pub(crate) fn keys(&self) -> Vec<String> {
        match self.port {
            Some(port) => vec![format!("port {port}")],
            None => self.domains.iter().map(|domain| format!("{domain}{}/", self.path)).collect(),
        }
    }

    /// Whether the plugin or the check refuses it.
    pub(crate) fn is_bad(&self) -> bool {
        self.port == Some(0)
            || self.members.values().any(|member| !member.drains && matches!(member.weight, Some(13..=15)))
    }

    /// Its servers as the proxy shows them.
    pub(crate) fn servers(&self, name: &str) -> std::collections::BTreeSet<String> {
        let one = |(id, member): (&u8, &Member)| {
            let weight = if member.drains { 0 } else { member.weight.unwrap_or(1) };
            format!("{} {}:80 weight {weight}", server(name, *id), address(name, member.address))
        };
        self.members.iter().map(one).collect()
    }
}

/// The id of an instance.
pub(crate) fn server(name: &str, id: u8) -> String {
    format!("{}-{id}", name.replace('/', "."))
}

fn address(name: &str, last: u8) -> String {
    format!("10.0.{}.{last}", NAMES.iter().position(|known| *known == name).unwrap_or_default())
}

/// All services that are offered.
pub(crate) type Offers = BTreeMap<&'static str, Offer>;

/// The catalog of these.
pub(crate) fn catalog(offers: &Offers) -> Services {
    let instance = |name: &str, offer: &Offer, id: u8, member: &Member| {
        let mut attributes = Attributes::new();
        match offer.port {
            None => {
                attributes.insert("protocol".to_owned(), "http".to_owned());
                attributes.insert("domain".to_owned(), offer.domains.join(","));
                if !offer.path.is_empty() {
                    attributes.insert("path".to_owned(), offer.path.to_owned());
                }
            }
            Some(0) => {}
            Some(port) => _ = attributes.insert("listen-port".to_owned(), port.to_string()),
        }
        Arc::new(Instance {
            service: name.to_owned(),
            id: server(name, id),
            address: address(name, member.address),
            port: 80,
            transport: Transport::Tcp,
            readiness: if member.drains { Readiness::Draining } else { Readiness::Ready },
            weight: member.weight,
            attributes,
        })
    };
    let service = |(name, offer): (&&'static str, &Offer)| {
        let instances = offer.members.iter().map(|(id, member)| instance(name, offer, *id, member)).collect();
        (Arc::from(*name), Arc::new(Service { name: (*name).to_owned(), instances, denied: Vec::new() }))
    };
    offers.iter().map(service).collect()
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A service is offered, or offered otherwise.
    Offer(&'static str, Offer),
    /// Its last instance leaves.
    Leave(&'static str),
    /// The agent ends, and after a while one with these settings starts.
    Agent(u64, usize),
    /// The proxy ends by itself.
    ProxyEnds,
    /// Nobody reaches the socket for so many milliseconds.
    Cut(u64),
    /// Commands and answers are lost.
    Lose(u64),
    /// Reloads go like this.
    Reloads(Mode, u64),
    /// The check finds fault with what no service wrote.
    BaseRefused(u64),
    /// Somebody takes a port.
    Take(u16),
    /// Nobody else has any port.
    Free,
    /// A connection is open for a while to every server.
    Open(u64),
    /// Nothing happens until all is done.
    Quiet,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event::Offer(name, offer) = self else { return write!(f, "{self:?}") };
        match offer.port {
            Some(port) => write!(f, "Offer {name} tcp {port}:")?,
            None => write!(f, "Offer {name} {}{}:", offer.domains.join(","), offer.path)?,
        }
        for (id, Member { address, weight, drains }) in &offer.members {
            let weight = weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
            write!(f, " {id} at .{address}{weight}{}", if *drains { " drains" } else { "" })?;
        }
        Ok(())
    }
}

/// Events, each so many milliseconds after the one before.
pub(crate) type Story = Vec<(u64, Event)>;

/// Kinds of settings.
pub(crate) const SETTINGS: usize = 4;

/// The story of a seed.
pub(crate) fn story(seed: u64) -> Story {
    let mut chance = Chance(seed);
    let mut offers = Offers::new();
    let mut story = Story::new();
    let count = 5 + chance.below(14);
    let names: Vec<&'static str> = NAMES.iter().copied().filter(|_| !chance.once_in(3)).collect();
    let names = if names.is_empty() { vec!["a"] } else { names };
    for index in 0..count {
        let wait = match chance.below(12) {
            0 | 1 => 0,
            2..=5 => chance.below(60),
            6 | 7 => chance.below(1000),
            8 | 9 => chance.below(5000),
            10 => 60_000 + chance.below(10_000),
            _ => chance.below(20_000),
        };
        let event = if index > 2 && chance.once_in(6) { Event::Quiet } else { one(&mut chance, &names, &mut offers) };
        story.push((wait, event));
    }
    story.push((0, Event::Quiet));
    story
}

/// A story that chance hardly tells: a request is still in a standby backend when another service needs one.
pub(crate) fn occupied() -> Story {
    let members = |address| BTreeMap::from([(0, Member { address, weight: None, drains: false })]);
    let offer = |domain, address| Offer { domains: vec![domain], path: "", port: None, members: members(address) };
    vec![
        (10_000, Event::Offer("team/app", offer("x.example", 1))),
        (5_000, Event::Open(170_000)),
        (100, Event::Leave("team/app")),
        (70_000, Event::Offer("team_app", offer("y.example", 1))),
        (0, Event::Quiet),
    ]
}

/// A story that chance tells seldom: another base, and its reload reaches nobody.
pub(crate) fn unheard() -> Story {
    let members = BTreeMap::from([(0, Member { address: 1, weight: None, drains: false })]);
    let offer = Offer { domains: vec!["x.example"], path: "", port: None, members };
    vec![
        (10_000, Event::Offer("a", offer)),
        (5_000, Event::Reloads(Mode::Lost, 3_000)),
        (10, Event::Agent(500, 1)),
        (5_000, Event::Quiet),
    ]
}

fn one(chance: &mut Chance, names: &[&'static str], offers: &mut Offers) -> Event {
    let for_a_while = |chance: &mut Chance| 100 + chance.below(15_000);
    match chance.below(32) {
        0 | 1 => Event::Agent(chance.below(3000), usize::try_from(chance.below(SETTINGS as u64)).unwrap()),
        2 => Event::Agent(chance.below(3000), 0),
        3 => Event::ProxyEnds,
        4 => Event::Cut(for_a_while(chance)),
        5 => Event::Lose(for_a_while(chance)),
        6 => Event::Reloads(
            chance.of(&[Mode::Slow, Mode::Refused, Mode::Hanging, Mode::Unreported, Mode::Lost]),
            for_a_while(chance),
        ),
        7 => Event::Take(chance.of(&[7001, 7002, 8080])),
        8 => Event::Free,
        9 => Event::Open(12 * for_a_while(chance)),
        10 if chance.once_in(2) => Event::BaseRefused(for_a_while(chance)),
        11..=14 if !offers.is_empty() => {
            let name = chance.of(&offers.keys().copied().collect::<Vec<_>>());
            offers.remove(name);
            Event::Leave(name)
        }
        _ => {
            let name = chance.of(names);
            let is_tcp = if name == "db" || name == "odd" { !chance.once_in(6) } else { chance.once_in(12) };
            if let Some(offer) = offers.get_mut(name) {
                offer.change(chance);
            } else {
                offers.insert(name, Offer::by_chance(chance, is_tcp));
            }
            Event::Offer(name, offers[name].clone())
        }
    }
}
