//! Sorts steps by how the executor carries them out, and cuts them into what one transaction takes.

use super::Step;
use super::client::MAX_OPERATIONS;
use crate::model::VALUE_LIMIT;

/// Most bytes of keys and values in one request; etcd takes 1.5 MiB.
const MAX_REQUEST: usize = 1024 * 1024;

/// Steps by how the executor carries them out.
#[derive(Default)]
pub(super) struct Sorted {
    /// Moved to leases of their own, before all others.
    pub(super) detached: Vec<Step>,
    /// Carried out together, as far as one transaction takes them.
    pub(super) changes: Vec<Step>,
    /// Released, after all others.
    pub(super) releases: Vec<Step>,
    /// Refused, because their value is too long.
    pub(super) too_long: Vec<Step>,
}

/// Sorts steps; each kind stays in its order.
pub(super) fn sort(steps: &[Step]) -> Sorted {
    let mut sorted = Sorted::default();
    for step in steps {
        let kind = match step {
            Step::PutDetached { .. } => &mut sorted.detached,
            Step::Release { .. } => &mut sorted.releases,
            _ if value_size(step) > VALUE_LIMIT => &mut sorted.too_long,
            _ => &mut sorted.changes,
        };
        kind.push(step.clone());
    }
    sorted
}

/// Bytes of the value that a step writes.
pub(super) fn value_size(step: &Step) -> usize {
    match step {
        Step::Put { value, .. } | Step::Share { value, .. } | Step::PutDetached { value, .. } => value.len(),
        Step::Delete { .. } | Step::Release { .. } => 0,
    }
}

/// Cuts steps into what one transaction takes; a shared entry counts double because it may need two comparisons.
pub(super) fn batches(steps: &[Step]) -> Vec<&[Step]> {
    split(steps, |step| {
        let operations = if matches!(step, Step::Share { .. }) { 2 } else { 1 };
        (operations, value_size(step) + 2 * step.key().len())
    })
}

/// Cuts `items` into slices within the limits of operations and bytes; `weigh` gives both for one item.
pub(super) fn split<T>(items: &[T], weigh: impl Fn(&T) -> (usize, usize)) -> Vec<&[T]> {
    let (mut slices, mut start, mut operations, mut bytes) = (Vec::new(), 0, 0, 0);
    for (index, item) in items.iter().enumerate() {
        let weight = weigh(item);
        if index > start && (operations + weight.0 > MAX_OPERATIONS || bytes + weight.1 > MAX_REQUEST) {
            slices.push(&items[start..index]);
            (start, operations, bytes) = (index, 0, 0);
        }
        operations += weight.0;
        bytes += weight.1;
    }
    if start < items.len() {
        slices.push(&items[start..]);
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_cut_by_number_and_by_size() {
        let put =
            |number: usize, size: usize| Step::Put { key: format!("/a/{number}"), value: "x".repeat(size).into() };
        let small: Vec<Step> = (0..250).map(|number| put(number, 1)).collect();
        assert_eq!(batches(&small).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let large: Vec<Step> = (0..5).map(|number| put(number, 400_000)).collect();
        assert_eq!(batches(&large).iter().map(|batch| batch.len()).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(batches(&[]).is_empty());
    }
}
