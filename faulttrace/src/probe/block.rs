//! What following reads to their devices (`--io`) takes of the kernel: its tracepoints, and where its
//! block layer keeps things.

use btf_rs::Btf;

use super::offsets::{offset_of, size_of_type, tracepoint_arguments};
use super::{KernelTypes, Need};

/// Offsets of members in the block layer's structures, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockTypes {
    /// `bio.bi_next`.
    pub bio_next: u64,
    /// `bio.bi_private`.
    pub bio_private: u64,
    /// `bio.bi_opf`.
    pub bio_opf: u64,
    /// `bio.bi_flags`.
    pub bio_flags: u64,
    /// `bio.bi_iter.bi_size`.
    pub bio_size: u64,
    /// `bio.bi_bdev` and in it `block_device.bd_dev`; since kernel commit 309dca309fc3 (5.12).
    pub bio_device: Option<(u64, u64)>,
    /// Where the pages of a bio are; `None`: reads that are held back are not found again.
    pub bio_pages: Option<BioPages>,
    /// `request.cmd_flags`.
    pub request_flags: u64,
    /// `request.bio`.
    pub request_bio: u64,
    /// `request.__data_len`.
    pub request_data_len: u64,
    /// Where the disk of a request is.
    pub disk: DiskOf,
    /// `gendisk.major`.
    pub disk_major: u64,
    /// `gendisk.first_minor`.
    pub disk_first_minor: u64,
    /// The tracepoints pass the queue first, as before kernel commits a54895fa057c and e8a676d61c07
    /// (5.11).
    pub passes_queue: bool,
    /// The same of the tracepoints of bios: not all kernels have both changes, or none.
    pub bio_passes_queue: bool,
}

/// Where the pages of a bio are: offsets and sizes, bytes. Folios have what `mapping` is by that name since
/// kernel commit 7b230db3b8d3 (5.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BioPages {
    /// `bio.bi_io_vec`.
    pub vectors: u64,
    /// `bio.bi_iter.bi_idx`.
    pub vector: u64,
    /// Size of `struct bio_vec`.
    pub vector_size: u64,
    /// `bio_vec.bv_page`.
    pub page: u64,
    /// `bio_vec.bv_offset`.
    pub offset: u64,
    /// Size of `struct page`.
    pub page_size: u64,
    /// `page.compound_head`, later `compound_info`: its lowest bit tells that a page is not the first of its
    /// folio.
    pub page_head: u64,
    /// The rest of it is then where the first is: not so of `compound_info`, which may be a mask.
    pub head_is_pointer: bool,
    /// `folio.mapping`.
    pub folio_mapping: u64,
    /// `folio.index`.
    pub folio_index: u64,
}

fn bio_pages(btf: &Btf) -> Option<BioPages> {
    let member = |structure, name| offset_of(btf, structure, name).ok();
    let size = |structure| size_of_type(btf, structure).ok();
    let head = member("page", "compound_head");
    Some(BioPages {
        vectors: member("bio", "bi_io_vec")?,
        vector: member("bio", "bi_iter")? + member("bvec_iter", "bi_idx")?,
        vector_size: size("bio_vec")?,
        page: member("bio_vec", "bv_page")?,
        offset: member("bio_vec", "bv_offset")?,
        page_size: size("page")?,
        page_head: head.or_else(|| member("page", "compound_info"))?,
        head_is_pointer: head.is_some(),
        folio_mapping: member("folio", "mapping")?,
        folio_index: member("folio", "index")?,
    })
}

/// Where the disk of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskOf {
    /// `request.q`, and in it `request_queue.disk`: since kernel commit d152c682f03c (5.15).
    Queue(u64, u64),
    /// `request.rq_disk`.
    Request(u64),
}

/// Reads them; else what is missing.
pub(super) fn block_types(btf: &Btf) -> Result<BlockTypes, &'static str> {
    let member = |structure, name| offset_of(btf, structure, name);
    let needed = |structure, name, what| member(structure, name).map_err(|_| what);
    let queue = member("request", "q").and_then(|q| Ok((q, member("request_queue", "disk")?)));
    let disk = match queue {
        Ok((queue, disk)) => DiskOf::Queue(queue, disk),
        Err(_) => DiskOf::Request(needed("request", "rq_disk", "request.rq_disk")?),
    };
    let device =
        member("bio", "bi_bdev").and_then(|bdev| Ok((bdev, member("block_device", "bd_dev")?)));
    // void *__data, [queue,] request or bio
    let passes_queue =
        |tracepoint| tracepoint_arguments(btf, tracepoint).is_some_and(|count| count >= 3);
    Ok(BlockTypes {
        bio_next: needed("bio", "bi_next", "bio.bi_next")?,
        bio_private: needed("bio", "bi_private", "bio.bi_private")?,
        bio_opf: needed("bio", "bi_opf", "bio.bi_opf")?,
        bio_flags: needed("bio", "bi_flags", "bio.bi_flags")?,
        bio_size: needed("bio", "bi_iter", "bio.bi_iter")?
            + needed("bvec_iter", "bi_size", "bvec_iter.bi_size")?,
        bio_device: device.ok(),
        bio_pages: bio_pages(btf),
        request_flags: needed("request", "cmd_flags", "request.cmd_flags")?,
        request_bio: needed("request", "bio", "request.bio")?,
        request_data_len: needed("request", "__data_len", "request.__data_len")?,
        disk,
        disk_major: needed("gendisk", "major", "gendisk.major")?,
        disk_first_minor: needed("gendisk", "first_minor", "gendisk.first_minor")?,
        passes_queue: passes_queue("block_rq_issue"),
        bio_passes_queue: passes_queue("block_bio_queue"),
    })
}

/// What of the kernel `--io` lacks; `None` if it has all.
pub(super) fn lacks(types: &KernelTypes) -> Option<String> {
    if let Err(what) = types.block {
        return Some(format!("the kernel's types have no {what}"));
    }
    let tracepoint = types.missing(Need::Io)?;
    Some(format!("there is no tracepoint block:{tracepoint}"))
}

/// Values of the programs' globals.
pub(super) fn words(types: &BlockTypes) -> impl Iterator<Item = (&'static str, u64)> {
    let (bdev, dev) = types.bio_device.unwrap_or_default();
    let (queue, disk) = match types.disk {
        DiskOf::Queue(queue, disk) => (queue, disk),
        DiskOf::Request(disk) => (0, disk),
    };
    let pages = types.bio_pages.iter().flat_map(|pages| {
        [
            ("OFF_BIO_VECTORS", pages.vectors),
            ("OFF_BIO_VECTOR", pages.vector),
            ("SIZE_VECTOR", pages.vector_size),
            ("OFF_VECTOR_PAGE", pages.page),
            ("OFF_VECTOR_OFFSET", pages.offset),
            ("SIZE_PAGE", pages.page_size),
            ("OFF_PAGE_HEAD", pages.page_head),
            ("OFF_FOLIO_MAPPING", pages.folio_mapping),
            ("OFF_FOLIO_INDEX", pages.folio_index),
        ]
    });
    [
        ("OFF_BIO_NEXT", types.bio_next),
        ("OFF_BIO_PRIVATE", types.bio_private),
        ("OFF_BIO_OPF", types.bio_opf),
        ("OFF_BIO_FLAGS", types.bio_flags),
        ("OFF_BIO_SIZE", types.bio_size),
        ("OFF_BIO_BDEV", bdev),
        ("OFF_BDEV_DEV", dev),
        ("OFF_REQUEST_FLAGS", types.request_flags),
        ("OFF_REQUEST_BIO", types.request_bio),
        ("OFF_REQUEST_DATA_LEN", types.request_data_len),
        ("OFF_REQUEST_QUEUE", queue),
        ("OFF_HOLDER_DISK", disk),
        ("OFF_DISK_MAJOR", types.disk_major),
        ("OFF_DISK_FIRST_MINOR", types.disk_first_minor),
    ]
    .into_iter()
    .chain(pages)
}

/// The same, of those that are yes or no.
pub(super) fn numbers(types: &BlockTypes) -> impl Iterator<Item = (&'static str, u32)> {
    let of_queue = matches!(types.disk, DiskOf::Queue(..));
    [
        ("HELD_BACK_TOLD", u32::from(types.bio_pages.is_some())),
        (
            "HEAD_IS_POINTER",
            u32::from(types.bio_pages.is_some_and(|pages| pages.head_is_pointer)),
        ),
        ("BIO_HAS_BDEV", u32::from(types.bio_device.is_some())),
        ("DISK_OF_QUEUE", u32::from(of_queue)),
        ("BLOCK_PASSES_QUEUE", u32::from(types.passes_queue)),
        ("BIO_PASSES_QUEUE", u32::from(types.bio_passes_queue)),
        ("IO", 1),
    ]
    .into_iter()
}
