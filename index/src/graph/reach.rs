//! Every node can be reached: those that no way leads to are linked from their nearest reachable neighbours.

use super::{END, Graph, Scratch, Walk};
use crate::memory::Rows;

/// Reachable nodes near an orphan that are looked at for a free place in their list.
const NEAR: usize = 48;
/// Rounds of repair. A link that gives way to an orphan's may leave another orphan; that is rare, and rarer each round.
const ROUNDS: usize = 8;

/// Links orphans in. Returns how many there were.
pub(super) fn connect(graph: &mut Graph, rows: &Rows) -> usize {
    let mut found = 0;
    for _ in 0..ROUNDS {
        let reached = reachable(graph);
        let orphans: Vec<u32> = (0..graph.nodes as u32).filter(|&node| !reached[node as usize]).collect();
        if orphans.is_empty() {
            break;
        }
        found += orphans.len();
        for orphan in orphans {
            adopt(graph, rows, orphan);
        }
    }
    found
}

/// Which nodes can be reached in the lowest layer from where searches enter it.
pub(super) fn reachable(graph: &Graph) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes];
    let start = graph.top_slot();
    let mut open = vec![start];
    if let Some(first) = reached.get_mut(start as usize) {
        *first = true;
    }
    while let Some(node) = open.pop() {
        for link in graph.links_of(node) {
            if !std::mem::replace(&mut reached[link as usize], true) {
                open.push(link);
            }
        }
    }
    reached
}

/// Has one of the nodes near an orphan link to it: the nearest with room, or else the nearest, which gives up its last link.
fn adopt(graph: &mut Graph, rows: &Rows, orphan: u32) {
    let near: Vec<u32> = {
        let query = rows.query_codes(orphan);
        let mut scratch = Scratch::default();
        let walk = Walk { graph, rows, query: &query, vector: rows.vector(orphan) };
        walk.nearest(NEAR, &mut scratch)
            .iter()
            .map(|&(_, slot)| slot)
            .filter(|&slot| slot != orphan)
            .collect()
    };
    let with_room = near.iter().copied().find(|&node| graph.list(node).last() == Some(&END));
    let Some(parent) = with_room.or(near.first().copied()) else { return };
    let list = graph.list_mut(parent);
    let place = list.iter().position(|&link| link == END).unwrap_or(list.len() - 1);
    list[place] = orphan;
}
