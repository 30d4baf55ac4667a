//! What a document may ask for at most. Each limit bounds what one request can make a broker hold or compute.

/// The longest document in its canonical form, in bytes.
pub const DOCUMENT_BYTES: usize = 64 * 1024;
/// The longest text that is read: people add white space and line ends.
pub const TEXT_BYTES: usize = 4 * DOCUMENT_BYTES;
/// How deep expressions nest.
pub const EXPRESSION_DEPTH: usize = 32;
/// How many names a field's path has.
pub const FIELD_DEPTH: usize = 16;
/// How many arguments a function takes.
pub const ARGUMENTS: usize = 64;
/// How many conditions one AND or OR links.
pub const CONDITIONS: usize = 1_000;
/// How many operands a sum or a product has.
pub const TERMS: usize = 32;
/// How many constants one `in` lists.
pub const IN_ITEMS: usize = 1_000;
/// How long a column's name is, in bytes.
pub const NAME_BYTES: usize = 128;
/// How many columns make a group.
pub const GROUP_COLUMNS: usize = 16;
/// How many aggregates and how many columns there are.
pub const COLUMNS: usize = 64;
/// How many keys order a Top-N.
pub const ORDER_KEYS: usize = 16;
/// How many rows of a window a Top-N lets through, and how many values a top-k names.
pub const TOP: u64 = 10_000;
/// How many edges a histogram has.
pub const EDGES: usize = 256;
/// The longest window, gap, disorder and so on: a year, in milliseconds.
pub const LENGTH_MS: i64 = 366 * 86_400_000;
/// In how many windows one record may be.
pub const WINDOWS_OF_A_RECORD: i64 = 1_000;
/// Of how many panes, the common measure of size and hop, a window is made.
pub const PANES: i64 = 4_096;
/// How often changed rows come out at most, in milliseconds.
pub const UPDATE_INTERVAL_MIN_MS: i64 = 100;
/// The least and the most memory of a stream's state, in bytes.
pub const MEMORY_BYTES: (u64, u64) = (1 << 20, 1 << 40);
