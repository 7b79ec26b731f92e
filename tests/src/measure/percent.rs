//! What so many of a hundred kept.

/// The value that `percent` of a hundred are at or below; the default if there is none.
pub(crate) fn of<T: Copy + Default + Ord>(mut values: Vec<T>, percent: usize) -> T {
    values.sort_unstable();
    let at = values.len() * percent / 100;
    let at = at.min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}
