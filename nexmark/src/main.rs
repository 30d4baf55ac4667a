//! The events of the NEXMark benchmark (people, auctions, bids) as lines of JSON, for
//! `scripts/nexmark-vs-duckdb`. The same arguments give the same bytes: identifiers seed the values,
//! and time begins where it is told to.
//!
//! Beside the time at which an event happened (`date_time`) it has the one at which it came here
//! (`arrived`). Events come in groups of 1,537, each in an order of its own, so a bid comes up to
//! 154 ms after later ones. That size has no common measure with the windows' lengths: with a
//! thousand events no group would reach over the end of a window.

use std::io::{self, BufWriter, Write};

use nexmark::{
    EventGenerator,
    config::NexmarkConfig,
    event::{Auction, Bid, Event, Person},
};

const GROUP: usize = 1_537;
/// Events in a second, in the benchmark and here.
const EVENTS_PER_MS: u64 = 10;
/// 2023-11-13, seven and a half seconds before midnight, so that there are two days in it.
const BASE_TIME_MS: u64 = 1_699_919_992_501;

fn main() -> io::Result<()> {
    let events = std::env::args().nth(1).and_then(|count| count.parse::<u64>().ok());
    let Some(events) = events else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: pubg1-nexmark EVENTS >FILE"));
    };
    let config = NexmarkConfig { base_time: BASE_TIME_MS, out_of_order_group_size: GROUP, ..NexmarkConfig::default() };
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let numbered = (0..events).zip(EventGenerator::new(config));
    for (number, event) in numbered {
        let arrived = BASE_TIME_MS + number / EVENTS_PER_MS;
        match event {
            Event::Person(person) => write_person(&mut out, &person, arrived)?,
            Event::Auction(auction) => write_auction(&mut out, &auction, arrived)?,
            Event::Bid(bid) => write_bid(&mut out, &bid, arrived)?,
        }
    }
    out.flush()
}

// The generator's texts are ASCII without quotes, backslashes and control characters; Rust writes
// such a text as JSON does.

fn write_person(out: &mut impl Write, person: &Person, arrived: u64) -> io::Result<()> {
    let Person { id, name, email_address, credit_card, city, state, date_time, extra } = person;
    writeln!(
        out,
        r#"{{"type":"person","id":{id},"name":{name:?},"email_address":{email_address:?},"credit_card":{credit_card:?},"city":{city:?},"state":{state:?},"date_time":{date_time},"arrived":{arrived},"extra":{extra:?}}}"#
    )
}

fn write_auction(out: &mut impl Write, auction: &Auction, arrived: u64) -> io::Result<()> {
    let Auction { id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra } =
        auction;
    writeln!(
        out,
        r#"{{"type":"auction","id":{id},"item_name":{item_name:?},"description":{description:?},"initial_bid":{initial_bid},"reserve":{reserve},"date_time":{date_time},"arrived":{arrived},"expires":{expires},"seller":{seller},"category":{category},"extra":{extra:?}}}"#
    )
}

fn write_bid(out: &mut impl Write, bid: &Bid, arrived: u64) -> io::Result<()> {
    let Bid { auction, bidder, price, channel, url, date_time, extra } = bid;
    writeln!(
        out,
        r#"{{"type":"bid","auction":{auction},"bidder":{bidder},"price":{price},"channel":{channel:?},"url":{url:?},"date_time":{date_time},"arrived":{arrived},"extra":{extra:?}}}"#
    )
}
