//! Which prepared backends a service may live in.

use crate::names::SPARE;

/// How many a service may live in. They are asked about with every change of an http service, so that none but the
/// process has to know which one it has; with half of all taken, one service in 256 finds none of its own free.
const CANDIDATES: usize = 8;

/// The candidates of a section, in the order in which it takes them: they follow from its name.
pub(super) fn candidates(spares: u16, name: &str) -> Vec<String> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    if usize::from(spares) <= CANDIDATES {
        let first = fnv(hash, name) >> 32;
        numbers.extend((0..u64::from(spares)).map(|step| 1 + (first + step) % u64::from(spares)));
    } else {
        for _ in 0..8 * CANDIDATES {
            hash = fnv(hash, name);
            let number = 1 + (hash >> 32) % u64::from(spares);
            if numbers.len() < CANDIDATES && !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    numbers.into_iter().map(|number| format!("{SPARE}{number}")).collect()
}

/// FNV-1a; another `seed` gives another hash.
fn fnv(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed ^ 0x9e37, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
