//! Tests of reading records.

use super::*;

fn options(format: InputFormat) -> InputOptions {
    InputOptions {
        format,
        key_field: None,
        key_separator: None,
        timestamp_field: None,
        infer_types: false,
        keep_broken: false,
    }
}

fn all(source: &[u8], options: &InputOptions) -> Result<Vec<InputRecord>, CommandError> {
    let mut records = Vec::new();
    read(source, options, &mut |chunk| {
        records.extend(chunk);
        true
    })?;
    Ok(records)
}

fn values(records: &[InputRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.value.clone()).unwrap()).collect()
}

#[test]
fn lines_are_values_as_they_are() {
    let records = all(b"one\r\n\ntwo\nlast without end", &options(InputFormat::Lines)).unwrap();
    assert_eq!(values(&records), ["one", "", "two", "last without end"]);
    assert_eq!(records.iter().map(|record| record.position).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn a_separator_splits_key_and_value() {
    let options = InputOptions { key_separator: Some("::".to_owned()), ..options(InputFormat::Lines) };
    let records = all(b"a::b::c\nno key\n", &options).unwrap();
    assert_eq!(records[0].key.as_deref(), Some(&b"a"[..]));
    assert_eq!(values(&records), ["b::c", "no key"]);
    assert_eq!(records[1].key, None);
}

#[test]
fn ndjson_keeps_the_bytes_and_finds_key_and_time() {
    let options = InputOptions {
        key_field: Some("id".to_owned()),
        timestamp_field: Some("at".to_owned()),
        ..options(InputFormat::Ndjson)
    };
    let records = all(b"{\"id\": 7, \"at\":1000}\n\n  {\"at\":null,\"id\":\"x\"}\n", &options).unwrap();
    assert_eq!(values(&records), ["{\"id\": 7, \"at\":1000}", "{\"at\":null,\"id\":\"x\"}"]);
    assert_eq!(records[0].key.as_deref(), Some(&b"7"[..]));
    assert_eq!(records[0].timestamp_ms, Some(1_000_000));
    assert_eq!(records[1].key.as_deref(), Some(&b"x"[..]));
    assert_eq!(records[1].timestamp_ms, None);
}

#[test]
fn a_broken_document_is_named_by_its_position() {
    let error = all(b"{}\n{oops\n", &options(InputFormat::Ndjson)).unwrap_err();
    assert!(matches!(error, CommandError::Input { record: 1, .. }), "{error}");
    let keyed = InputOptions { key_field: Some("id".to_owned()), ..options(InputFormat::Ndjson) };
    assert!(all(b"{}\n", &keyed).unwrap_err().to_string().contains("\"id\""));
}

#[test]
fn csv_rows_become_objects_in_the_order_of_the_columns() {
    let text = b"b,a,c\n1,\"x, \"\"y\"\"\",\n007,true,-2.5\n";
    let records = all(text, &options(InputFormat::Csv)).unwrap();
    assert_eq!(values(&records), [r#"{"b":"1","a":"x, \"y\"","c":""}"#, r#"{"b":"007","a":"true","c":"-2.5"}"#]);
    let typed = InputOptions { infer_types: true, key_field: Some("b".to_owned()), ..options(InputFormat::Csv) };
    let records = all(text, &typed).unwrap();
    assert_eq!(values(&records), [r#"{"b":1,"a":"x, \"y\"","c":null}"#, r#"{"b":"007","a":true,"c":-2.5}"#]);
    assert_eq!(records[0].key.as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_missing_column_is_a_usage_error_that_lists_the_columns() {
    let keyed = InputOptions { key_field: Some("carier".to_owned()), ..options(InputFormat::Csv) };
    let error = all(b"carrier,flight\nUA,1\n", &keyed).unwrap_err();
    assert!(matches!(&error, CommandError::Usage(text) if text.contains("carrier, flight")), "{error}");
    assert!(matches!(all(b"a,b\n1\n", &options(InputFormat::Csv)), Err(CommandError::Input { record: 0, .. })));
}

#[test]
fn gzip_is_recognised_by_its_first_bytes() {
    use std::io::Write;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"one\ntwo\n").unwrap();
    let records = all(&packed.finish().unwrap(), &options(InputFormat::Lines)).unwrap();
    assert_eq!(values(&records), ["one", "two"]);
}

#[test]
fn the_name_of_a_file_tells_its_format() {
    for (name, expected) in [
        ("a.csv", InputFormat::Csv),
        ("b.CSV.gz", InputFormat::Csv),
        ("c.jsonl", InputFormat::Ndjson),
        ("d.ndjson.gz", InputFormat::Ndjson),
        ("e.txt", InputFormat::Lines),
        ("f", InputFormat::Lines),
    ] {
        assert_eq!(InputFormat::of(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn broken_lines_are_kept_when_that_is_asked_for() {
    let lines = b"{\"k\":\"a\",\"t\":1357035420}\n{oops\n{\"k\":7,\"t\":\"never\"}\n";
    let fields = InputOptions {
        key_field: Some("k".to_owned()),
        timestamp_field: Some("t".to_owned()),
        keep_broken: true,
        ..options(InputFormat::Ndjson)
    };
    let records = all(lines, &fields).unwrap();
    let found: Vec<_> = records.iter().map(|record| (record.key.as_deref(), record.timestamp_ms)).collect();
    assert_eq!(found, [(Some(&b"a"[..]), Some(1_357_035_420_000)), (None, None), (Some(&b"7"[..]), None)]);
    assert_eq!(values(&records)[1], "{oops");
    assert!(all(lines, &InputOptions { keep_broken: false, ..fields }).is_err());
}
