//! Cuts steps into what one transaction takes.

use super::Step;

/// Most operations in one transaction; etcd takes 128.
pub(super) const MAX_OPERATIONS: usize = 100;

/// Most bytes of keys and values in one request; etcd takes 1.5 MiB.
const MAX_REQUEST: usize = 1024 * 1024;

/// Cuts steps into what one transaction takes; a shared entry counts double because it may need two comparisons.
pub(super) fn batches(steps: &[Step]) -> Vec<&[Step]> {
    split(steps, |step| {
        let operations = if matches!(step, Step::Share { .. }) { 2 } else { 1 };
        (operations, step.value().map_or(0, |value| value.len()) + 2 * step.key().len())
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
