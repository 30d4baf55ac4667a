//! Who of the replicas is the preferred leader, so that every broker is it equally often.

use std::collections::VecDeque;

/// Evens how many of the `sets` each site leads, until no two sites differ by more than one that
/// could. `leaders` names the leader of each set, `counts` how many each site leads. Sites that are
/// not `fit` neither get nor give any.
///
/// A leadership moves along a chain of sets when no single set can do it: the usual augmenting path
/// of a flow. Each step makes the sum of the squares of the counts smaller, so it ends.
pub(super) fn even(sets: &[Vec<usize>], leaders: &mut [usize], counts: &mut [usize], fit: &[bool]) {
    let mut led: Vec<Vec<usize>> = vec![Vec::new(); counts.len()];
    for (set, leader) in leaders.iter().enumerate() {
        led[*leader].push(set);
    }
    let mut sites: Vec<usize> = (0..counts.len()).filter(|site| fit[*site]).collect();
    loop {
        sites.sort_by_key(|site| std::cmp::Reverse(counts[*site]));
        let Some((start, path)) = sites.iter().find_map(|start| Some((*start, path(*start, sets, &led, counts, fit)?)))
        else {
            return;
        };
        let mut from = start;
        for (set, to) in path {
            led[from].retain(|known| *known != set);
            led[to].push(set);
            leaders[set] = to;
            counts[from] -= 1;
            counts[to] += 1;
            from = to;
        }
    }
}

/// The shortest way on which a leadership of `start` gets to a site that has at least two fewer:
/// the sets that change their leaders, each with the new one.
fn path(
    start: usize,
    sets: &[Vec<usize>],
    led: &[Vec<usize>],
    counts: &[usize],
    fit: &[bool],
) -> Option<Vec<(usize, usize)>> {
    // How each site was reached: from where, by which set.
    let mut reached: Vec<Option<(usize, usize)>> = vec![None; counts.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(from) = queue.pop_front() {
        for set in &led[from] {
            for to in &sets[*set] {
                if !fit[*to] || *to == start || reached[*to].is_some() {
                    continue;
                }
                reached[*to] = Some((from, *set));
                if counts[*to] + 2 <= counts[start] {
                    return Some(way_to(*to, &reached));
                }
                queue.push_back(*to);
            }
        }
    }
    None
}

fn way_to(end: usize, reached: &[Option<(usize, usize)>]) -> Vec<(usize, usize)> {
    let mut way = Vec::new();
    let mut to = end;
    while let Some((from, set)) = reached[to] {
        way.push((set, to));
        to = from;
    }
    way.reverse();
    way
}
