//! Chooses the standby backends that a service may use.

use crate::names::STANDBY;

/// Number of standby backends that a service may use. Every change of an http service queries all of them, so that only the
/// process has to know which one the service has. With half of all taken, one service in 256 finds none free.
const CANDIDATES: usize = 8;

/// Returns the candidates of a section in order of preference. They follow from its name.
pub(super) fn candidates(standbys: u16, name: &str) -> Vec<String> {
    let mut numbers: Vec<u64> = Vec::new();
    let hash = fnv(name);
    if usize::from(standbys) <= CANDIDATES {
        numbers.extend((0..u64::from(standbys)).map(|step| 1 + (mix(hash) + step) % u64::from(standbys)));
    } else {
        for step in 0..8 * CANDIDATES as u64 {
            let number = 1 + mix(hash.wrapping_add(step)) % u64::from(standbys);
            if numbers.len() < CANDIDATES && !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    numbers.into_iter().map(|number| format!("{STANDBY}{number}")).collect()
}

/// FNV-1a.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The last steps of `MurmurHash3`, which spread a difference over all bits; the top one is left out, so that sums fit.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ (hash >> 33)) >> 1
}
