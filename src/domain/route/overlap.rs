//! What the checker asks of a whole table: routes that no request reaches, and strict ones inside of lax ones.
//!
//! Both are read off trees of paths by host pattern, so that a table of ten thousand routes is checked in the time of ten thousand
//! look-ups. The tests say the same by comparing every pair, and hold one against the other.

use super::{Entry, HostPattern, Node, PathPattern, Paths, RouteTable, Tree};
use http::Method;
use std::collections::{BTreeSet, HashMap};

impl RouteTable {
    /// Routes that no request reaches, each with an earlier one that takes its requests.
    pub fn unreachable(&self) -> Vec<(usize, usize)> {
        (1..self.entries.len()).filter_map(|later| Some((later, self.hidden_by(later)?))).collect()
    }

    /// Pairs of an inner and an outer route: the inner one's path lies below the outer's on a host that both have, and
    /// `is_stricter(inner, outer)` holds. It is asked once for each pair that lies so.
    pub fn stricter_under(&self, is_stricter: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
        let outers = Outers::new(&self.entries);
        let mut pairs = Vec::new();
        for (inner, entry) in self.entries.iter().enumerate() {
            for outer in outers.around(entry) {
                if self.entries[outer].is_strictly_above(entry) && is_stricter(inner, outer) {
                    pairs.push((inner, outer));
                }
            }
        }
        pairs
    }

    /// An earlier route that takes what `later` would, if that holds for each of its hosts.
    fn hidden_by(&self, later: usize) -> Option<usize> {
        let hiding: Option<Vec<usize>> =
            places(&self.entries[later]).into_iter().map(|host| self.hidden_on(later, host)).collect();
        hiding?.first().copied()
    }

    /// The same for one of its host patterns.
    fn hidden_on(&self, later: usize, host: Place<'_>) -> Option<usize> {
        let entry = &self.entries[later];
        let group = self.at(host).map_or(&[][..], |paths| paths.group(entry));
        let first_mate = *group.first().unwrap_or(&later);
        // Whatever comes before the whole group and covers it takes everything.
        let covering = std::iter::once(host).chain(host.above()).filter_map(|host| self.at(host));
        let above = covering.filter_map(|paths| paths.first_around(entry)).min();
        // Within the group a method goes to the first that takes it.
        let earlier: Vec<usize> = group.iter().copied().take_while(|&index| index < later).collect();
        let taken =
            |method: &Method| earlier.iter().any(|&index| self.entries[index].methods.contains(method));
        let are_taken = !entry.methods.is_empty() && entry.methods.iter().all(taken);
        let takes_all = || earlier.iter().copied().find(|&index| self.entries[index].methods.is_empty());
        let takes_some = |&index: &usize| {
            let ours = &self.entries[index].methods;
            entry.methods.iter().any(|method| ours.contains(method))
        };
        above
            .filter(|&above| above < first_mate)
            .or_else(takes_all)
            .or_else(|| earlier.iter().copied().find(takes_some).filter(|_| are_taken))
    }

    fn at(&self, host: Place<'_>) -> Option<&Paths> {
        match host {
            Place::Exact(name) => self.exact.get(name),
            Place::Suffix(name) => self.suffixes.get(name),
            Place::Any => Some(&self.any),
        }
    }
}

/// One host pattern, or any host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place<'a> {
    Exact(&'a str),
    Suffix(&'a str),
    Any,
}

impl<'a> Place<'a> {
    fn of(host: &'a HostPattern) -> Self {
        match host {
            HostPattern::Exact(name) => Self::Exact(name),
            HostPattern::Suffix(name) => Self::Suffix(name),
        }
    }

    /// The wider patterns, each of which has every host of this one.
    fn above(self) -> impl Iterator<Item = Self> {
        let (name, is_wider) = match self {
            Self::Exact(name) | Self::Suffix(name) => (name, true),
            Self::Any => ("", false),
        };
        // Only names have domains above them; what stands behind the dots of an address means nothing.
        let dots = (1..if name.starts_with('[') { 0 } else { name.len() })
            .filter(move |&at| name.as_bytes()[at] == b'.');
        dots.map(move |dot| Self::Suffix(&name[dot + 1..])).chain(is_wider.then_some(Self::Any))
    }
}

fn places(entry: &Entry) -> Vec<Place<'_>> {
    if entry.hosts.is_empty() {
        return vec![Place::Any];
    }
    entry.hosts.iter().map(Place::of).collect()
}

impl Paths {
    /// The routes with this very path, in file order.
    fn group(&self, entry: &Entry) -> &[usize] {
        let tree = if entry.case_insensitive { &self.any_case } else { &self.exact_case };
        let segments = entry.path.segments(entry.case_insensitive);
        let end = tree.walk(&segments).nth(segments.len());
        end.map_or(&[], |node| match entry.path {
            PathPattern::Prefix(_) => &node.prefix,
            PathPattern::Exact(_) => &node.exact,
        })
    }

    /// The first route in the file that has every path of `entry`, which may be itself.
    fn first_around(&self, entry: &Entry) -> Option<usize> {
        let folded = entry.path.segments(true);
        let exact_case = if !entry.case_insensitive {
            self.exact_case.first_around(&entry.path, &entry.path.segments(false))
        } else if folded.is_empty() {
            self.exact_case.first_around(&entry.path, &folded)
        } else {
            // One with case has all spellings of one without only if it has all paths.
            self.exact_case.nodes.first().and_then(|root| root.prefix.first().copied())
        };
        exact_case.into_iter().chain(self.any_case.first_around(&entry.path, &folded)).min()
    }
}

impl Tree {
    /// The nodes from the root along these segments, as far as there are any.
    fn walk<'a, 's>(&'a self, segments: &'s [Box<[u8]>]) -> impl Iterator<Item = &'a Node> + use<'a, 's> {
        let mut rest = segments.iter();
        std::iter::successors(self.nodes.first(), move |node| {
            let segment = rest.next()?;
            let found = node.children.binary_search_by(|(own, _)| own.cmp(segment)).ok()?;
            Some(&self.nodes[node.children[found].1])
        })
    }

    fn first_around(&self, path: &PathPattern, segments: &[Box<[u8]>]) -> Option<usize> {
        let prefixes = self.walk(segments).filter_map(|node| node.prefix.first());
        let is_exact = matches!(path, PathPattern::Exact(_));
        let end = self.walk(segments).nth(segments.len()).filter(|_| is_exact);
        prefixes.chain(end.and_then(|node| node.exact.first())).min().copied()
    }
}

/// Prefixes by host pattern, folded: where case does matter, more lie around a path here than in truth.
struct Outers<'a> {
    of: HashMap<Place<'a>, Tree>,
    /// Under each pattern those of all narrower ones.
    below: HashMap<Place<'a>, Tree>,
}

impl<'a> Outers<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        let mut outers = Self { of: HashMap::new(), below: HashMap::new() };
        for (index, entry) in entries.iter().enumerate() {
            if matches!(entry.path, PathPattern::Exact(_)) {
                continue;
            }
            let places = places(entry);
            let above: BTreeSet<_> = places.iter().flat_map(|place| place.above()).collect();
            for (trees, places) in
                [(&mut outers.of, places), (&mut outers.below, above.into_iter().collect())]
            {
                for place in places {
                    trees.entry(place).or_default().insert(&entry.path, entry.path.segments(true), index);
                }
            }
        }
        outers
    }

    /// The routes whose prefix may be above the entry's path, on a host that both have; in file order.
    fn around(&self, entry: &'a Entry) -> BTreeSet<usize> {
        let segments = entry.path.segments(true);
        let mut found = BTreeSet::new();
        for place in places(entry) {
            let wider = std::iter::once(place).chain(place.above()).filter_map(|place| self.of.get(&place));
            for tree in wider.chain(self.below.get(&place)) {
                found.extend(tree.walk(&segments).take(segments.len()).flat_map(|node| &node.prefix));
            }
        }
        found
    }
}

impl Entry {
    fn is_strictly_above(&self, other: &Self) -> bool {
        let fold = self.case_insensitive || other.case_insensitive;
        let (ours, theirs) = (self.path.segments(fold), other.path.segments(fold));
        matches!(self.path, PathPattern::Prefix(_)) && theirs.len() > ours.len() && theirs.starts_with(&ours)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Written, entry};
    use super::*;
    use proptest::prelude::*;

    /// Every host of `theirs` is one of `ours`.
    fn covers(ours: &HostPattern, theirs: &HostPattern) -> bool {
        match (ours, theirs) {
            (HostPattern::Suffix(a), HostPattern::Suffix(b)) => a == b || ours.matches(b),
            (_, HostPattern::Exact(host)) => ours.matches(host),
            (HostPattern::Exact(_), HostPattern::Suffix(_)) => false,
        }
    }

    fn covers_path(ours: &Entry, theirs: &Entry) -> bool {
        // Ours with case cannot cover all spellings of theirs without.
        if theirs.case_insensitive && !ours.case_insensitive && !theirs.path.segments(true).is_empty() {
            return matches!(ours.path, PathPattern::Prefix(_)) && ours.path.segments(false).is_empty();
        }
        let fold = ours.case_insensitive;
        let (a, b) = (ours.path.segments(fold), theirs.path.segments(fold));
        match (&ours.path, &theirs.path) {
            (PathPattern::Prefix(_), _) => b.starts_with(&a),
            (PathPattern::Exact(_), PathPattern::Exact(_)) => a == b,
            (PathPattern::Exact(_), PathPattern::Prefix(_)) => false,
        }
    }

    fn are_mates(one: &Entry, other: &Entry, host: Option<&HostPattern>) -> bool {
        let is_exact = |entry: &Entry| matches!(entry.path, PathPattern::Exact(_));
        let path = |entry: &Entry| (entry.path.segments(entry.case_insensitive), entry.case_insensitive);
        (path(one), is_exact(one)) == (path(other), is_exact(other))
            && host.map_or(one.hosts.is_empty(), |host| one.hosts.contains(host))
    }

    fn hidden_on(entries: &[Entry], later: usize, host: Option<&HostPattern>) -> Option<usize> {
        let entry = &entries[later];
        let covers_host = |one: &Entry| {
            one.hosts.is_empty() || host.is_some_and(|host| one.hosts.iter().any(|ours| covers(ours, host)))
        };
        let mates: Vec<usize> =
            (0..=later).filter(|&index| are_mates(&entries[index], entry, host)).collect();
        let above = (0..mates[0]).find(|&at| covers_host(&entries[at]) && covers_path(&entries[at], entry));
        let earlier = &mates[..mates.len() - 1];
        let methods = |index: &usize| &entries[*index].methods;
        let takes_all = earlier.iter().find(|index| methods(index).is_empty());
        let is_taken = |method: &Method| earlier.iter().any(|index| methods(index).contains(method));
        let together = earlier.iter().find(|index| {
            !entry.methods.is_empty()
                && entry.methods.iter().all(is_taken)
                && entry.methods.iter().any(|method| methods(index).contains(method))
        });
        above.or(takes_all.copied()).or(together.copied())
    }

    /// [`RouteTable::unreachable`], by comparing every pair.
    fn unreachable(entries: &[Entry]) -> Vec<(usize, usize)> {
        let hidden_by = |later: usize| {
            let hosts = &entries[later].hosts;
            if hosts.is_empty() {
                return hidden_on(entries, later, None);
            }
            let hiding: Option<Vec<usize>> =
                hosts.iter().map(|host| hidden_on(entries, later, Some(host))).collect();
            hiding?.first().copied()
        };
        (1..entries.len()).filter_map(|later| Some((later, hidden_by(later)?))).collect()
    }

    /// [`RouteTable::stricter_under`], by comparing every pair.
    fn inner_and_outer(entries: &[Entry]) -> Vec<(usize, usize)> {
        let share_a_host = |one: &Entry, other: &Entry| {
            let any = one.hosts.is_empty() || other.hosts.is_empty();
            any || one.hosts.iter().any(|a| other.hosts.iter().any(|b| covers(a, b) || covers(b, a)))
        };
        let pairs = (0..entries.len()).flat_map(|inner| (0..entries.len()).map(move |outer| (inner, outer)));
        pairs
            .filter(|&(inner, outer)| {
                let (inner, outer) = (&entries[inner], &entries[outer]);
                outer.is_strictly_above(inner) && share_a_host(outer, inner)
            })
            .collect()
    }

    fn entries() -> impl Strategy<Value = Vec<Written>> {
        let host = prop::sample::select(vec![
            "-",
            "a",
            "b.a",
            "c.b.a",
            "*.a",
            "*.b.a",
            "*.c.b.a",
            "a,*.a",
            "b.a,c",
            "c,*.b.a",
            "[::1]",
            "127.0.0.1,*.1.a",
        ]);
        let fold = prop::sample::select(vec!["", "", "~"]);
        let path = prop::sample::select(vec![
            "/",
            "/x",
            "/X",
            "/x/y",
            "/x/Y",
            "/x/y/z",
            "= /x",
            "= /X",
            "= /x/",
            "= /",
            "= /x/y",
            "/%C3%96",
            "/%C3%B6/x",
            "/%FFx",
        ]);
        let methods = prop::sample::select(vec!["-", "-", "GET", "POST", "GET,POST", "PUT,GET"]);
        let one = (host, fold, path, methods)
            .prop_map(|(host, fold, path, methods)| entry(&format!("{host} {fold}{path} {methods}")));
        prop::collection::vec(one, 0..24)
    }

    proptest! {
        #[test]
        fn the_trees_say_what_comparing_every_pair_does(entries in entries()) {
            let table = RouteTable::new(entries);
            prop_assert_eq!(table.unreachable(), unreachable(&table.entries));
            prop_assert_eq!(table.stricter_under(|_, _| true), inner_and_outer(&table.entries));
        }
    }
}
