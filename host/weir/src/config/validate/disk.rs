//! The disk tier.

use std::path::Path;

use super::super::errors::{Findings, Place};
use super::super::model::{Cache, Disk};
use super::super::raw;
use super::super::read::At;
use super::{bytes, value};

/// What the rest of the configuration says that concerns it.
pub(super) struct Around<'a> {
    pub(super) folder: &'a Path,
    pub(super) data_dir: Option<&'a Path>,
    pub(super) cache: Option<&'a Cache>,
    /// Where `[redis]` stands, if there is one.
    pub(super) redis: Option<&'a Place>,
}

pub(super) fn resolve(
    disk: At<raw::Disk>,
    around: &Around<'_>,
    findings: &mut Findings<'_>,
) -> Option<Disk> {
    if around.redis.is_some() {
        findings.error(
            &disk.place,
            "there is a [redis] table too, and a node has one tier behind memory",
            "keep [redis] where nodes share objects and purges, [disk] on a node that is alone",
        );
        return None;
    }
    let raw = disk.value;
    let Some(data_dir) = around.data_dir else {
        findings.error(
            &disk.place,
            "there is no data_dir, where purges are kept that must not be forgotten before the objects are",
            "add data_dir = \"/var/lib/weir\" at the top of the file",
        );
        return None;
    };
    let largest = around.cache?.max_object;
    let max_object = raw.max_object.as_ref().map_or(largest, |size| size.value.0);
    let queue = raw.queue.as_ref()?;
    if max_object > queue.value.0 {
        let place = match &raw.max_object {
            Some(object) if object.place.given => &object.place,
            _ => &queue.place,
        };
        findings.error(
            place,
            "an object of max_object bytes would never fit into the queue",
            "write a smaller max_object, or a larger queue",
        );
    }
    if let Some(object) = &raw.max_object
        && object.value.0 > largest
    {
        findings.error(
            &object.place,
            format!("nothing larger than the {largest} bytes of cache.max_object is stored"),
            "write no more than cache.max_object, or leave the key out for just that",
        );
    }
    let path = raw.path.map(|path| around.folder.join(path.value));
    Some(Disk {
        path: path.unwrap_or_else(|| around.folder.join(data_dir).join("objects")),
        capacity: bytes(&raw.capacity)?,
        min_free: bytes(&raw.min_free)?,
        max_object,
        deadline: value(&raw.deadline)?,
        queue: queue.value.0,
    })
}
