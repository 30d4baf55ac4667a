//! Bids as the NEXMark benchmark has them, near enough.

/// A bid as a record.
pub(crate) struct Bid {
    pub(crate) time_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Bids of about 250 bytes, 10,000 a second, on a few thousand auctions that change slowly.
pub(crate) fn bids(count: u64) -> impl Iterator<Item = Bid> {
    let mut state = 1_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..count).map(move |n| {
            let auction = 1000 + n / 50 + random(100) * random(10);
            let (bidder, price, extra) = (random(5000), random(1_000_000), random(1 << 30));
            let time_ms = 1_700_000_000_000 + i64::try_from(n / 10).unwrap_or(0);
            let value = format!(
                r#"{{"auction":{auction},"bidder":{bidder},"price":{price},"channel":"channel-{}","url":"https://example.com/item.htm?query=1&channel_id={extra}","date_time":{time_ms},"extra":"{extra:0>90}"}}"#,
                bidder % 10
            );
            Bid { time_ms, key: auction.to_string().into_bytes(), value: value.into_bytes() }
        })
}
