//! The records of one poll as a body: each partition a piece of its own, so that a partition that was lost meanwhile
//! can be left out.

use pubg1_actors::DeliveredRange;
use pubg1_model::{Offset, TopicPartition};
use serde_json::Value;

use super::fetch::Source;
use crate::{
    error::ApiError,
    records::{
        query::{Form, Representation},
        render::Renderer,
        undecodable,
        walk::{Item, Step, walk},
    },
};

/// How much a body may hold. One record is always sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_bytes: usize,
    pub(super) max_records: usize,
    /// The largest output of one decompression.
    pub(super) output_bytes_max: usize,
}

/// What is sent of one partition.
pub(super) struct Piece {
    pub(super) place: TopicPartition,
    from: Offset,
    pub(super) next: Offset,
    was_reset: bool,
    pub(super) records: usize,
    body: Vec<u8>,
}

impl Piece {
    /// Whether anything was passed: records, or offsets without any.
    pub(super) fn moves(&self) -> bool {
        self.next > self.from
    }

    /// What the coordinator must know before the client gets it; `None` where nothing has changed.
    pub(super) fn range(&self) -> Option<DeliveredRange> {
        let changed = self.was_reset || self.moves();
        changed.then(|| DeliveredRange { partition: self.place.clone(), from: self.from, next: self.next })
    }
}

/// What is sent of all partitions.
pub(super) struct Page {
    pub(super) pieces: Vec<Piece>,
    /// The record at the head of everything that cannot be shown. No records are sent then.
    pub(super) error: Option<ApiError>,
}

/// Renders what was read.
pub(super) fn page(sources: &[Source], form: Form, bounds: Bounds) -> Page {
    let mut page = Page { pieces: Vec::with_capacity(sources.len()), error: None };
    let (mut bytes, mut records) = (0, 0);
    for source in sources {
        let Some(from) = source.from else { continue };
        let writer = Writer { form, bounds, renderer: renderer(form, source), bytes, records, body: Vec::new() };
        let piece = |next, body, records| Piece {
            place: source.place.clone(),
            from,
            next,
            was_reset: source.was_reset,
            records,
            body,
        };
        if page.error.is_some() {
            page.pieces.push(piece(from, Vec::new(), 0));
            continue;
        }
        match writer.write(source, from) {
            Ok((next, body, written)) => {
                bytes += body.len();
                records += written;
                page.pieces.push(piece(next, body, written));
            }
            Err(error) => {
                page.error = Some(error);
                page.pieces.push(piece(from, Vec::new(), 0));
            }
        }
    }
    page
}

fn renderer(form: Form, source: &Source) -> Renderer<'_> {
    let TopicPartition { topic, partition } = &source.place;
    match form.representation {
        Representation::List => Renderer::list(topic, *partition, form.format),
        Representation::Lines | Representation::Events => Renderer::line(topic, *partition, form.format),
    }
}

/// Writes one partition.
struct Writer<'s> {
    form: Form,
    bounds: Bounds,
    renderer: Renderer<'s>,
    /// What the partitions before it took.
    bytes: usize,
    records: usize,
    body: Vec<u8>,
}

impl Writer<'_> {
    /// Up to where it came, the body, and how many records that is.
    fn write(mut self, source: &Source, from: Offset) -> Result<(Offset, Vec<u8>, usize), ApiError> {
        let mut written = 0;
        let next = walk(&source.runs, from, self.bounds.output_bytes_max, |item| {
            let step = self.item(source, &item, written)?;
            written += usize::from(step == Step::On);
            Ok(step)
        })?;
        Ok((next, self.body, written))
    }

    fn item(&mut self, source: &Source, item: &Item<'_>, written: usize) -> Result<Step, ApiError> {
        let before = self.records + written;
        let is_full = before >= self.bounds.max_records || self.bytes + self.body.len() >= self.bounds.max_bytes;
        if before > 0 && is_full {
            return Ok(Step::StopBefore);
        }
        let start = self.body.len();
        self.open(written);
        let shown = match item {
            Item::Record(record) => self.renderer.write(record, &mut self.body),
            Item::Undecodable { offset, next, error } => Err(undecodable(*offset, *next, error)
                .with("topic", source.place.topic.as_str())
                .with("partition", source.place.partition.0)),
        };
        if let Err(error) = shown {
            if self.form.representation == Representation::List {
                self.body.truncate(start);
                // The records before it are good; a later poll meets it first and says so.
                return if before > 0 { Ok(Step::StopBefore) } else { Err(error) };
            }
            self.body.extend_from_slice(Value::Object(error.to_json()).to_string().as_bytes());
        }
        self.close();
        Ok(Step::On)
    }

    fn open(&mut self, written: usize) {
        match self.form.representation {
            Representation::List if written > 0 => self.body.push(b','),
            Representation::Events => self.body.extend_from_slice(b"event: record\ndata: "),
            Representation::List | Representation::Lines => {}
        }
    }

    fn close(&mut self) {
        match self.form.representation {
            Representation::List => {}
            Representation::Lines => self.body.push(b'\n'),
            Representation::Events => self.body.extend_from_slice(b"\n\n"),
        }
    }
}

/// The body of all pieces together.
pub(super) fn assemble(pieces: &[Piece], form: Form) -> Vec<u8> {
    let mut body = Vec::with_capacity(pieces.iter().map(|piece| piece.body.len() + 1).sum::<usize>() + 2);
    let is_list = form.representation == Representation::List;
    if is_list {
        body.push(b'[');
    }
    for (index, piece) in pieces.iter().filter(|piece| !piece.body.is_empty()).enumerate() {
        if is_list && index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&piece.body);
    }
    if is_list {
        body.push(b']');
    }
    body
}
