//! A collector that takes OTLP over HTTP, and reads as much of it as is asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::LONG;

/// A finished span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) took: Duration,
    attributes: Vec<(String, Value)>,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Word(String),
    Number(u64),
    Other,
}

impl Span {
    pub(crate) fn attribute(&self, key: &str) -> Option<&Value> {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn says(&self, key: &str, value: &Value) -> bool {
        self.attribute(key) == Some(value)
    }
}

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) url: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            bodies: Arc::default(),
        };
        let server = collector.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = server.clone();
                thread::spawn(move || server.talk(stream.unwrap()));
            }
        });
        collector
    }

    /// Takes one request after the other.
    fn talk(&self, stream: TcpStream) {
        let mut answers = stream.try_clone().unwrap();
        let mut requests = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if requests.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("post /v1/traces "), "{head}");
            assert!(
                head.contains("content-type: application/x-protobuf"),
                "{head}"
            );
            let (_, length) = head.split_once("content-length: ").unwrap();
            let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
            requests.read_exact(&mut body).unwrap();
            self.bodies.lock().unwrap().push(body);
            let _ = answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    }

    /// All spans so far. The numbers are those of the fields in the protocol.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let all = self.resource_spans();
        let scopes = all.iter().flat_map(|resource| resource.all(2));
        scopes
            .flat_map(|scope| scope.all(2))
            .map(|span| read(&span))
            .collect()
    }

    /// Who sent them.
    pub(crate) fn resource(&self) -> Vec<(String, Value)> {
        attributes(self.resource_spans()[0].all(1)[0].all(1))
    }

    fn resource_spans(&self) -> Vec<Message> {
        let bodies = self.bodies.lock().unwrap();
        bodies
            .iter()
            .flat_map(|body| Message::parse(body).all(1))
            .collect()
    }

    pub(crate) fn wait_for(&self, wanted: impl Fn(&Span) -> bool) -> Span {
        let start = Instant::now();
        loop {
            let spans = self.spans();
            if let Some(span) = spans.iter().find(|span| wanted(span)) {
                return span.clone();
            }
            assert!(start.elapsed() < LONG, "not among {spans:#?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether anything that was sent holds this.
    pub(crate) fn holds(&self, text: &str) -> bool {
        let bodies = self.bodies.lock().unwrap();
        let mut windows = bodies.iter().flat_map(|body| body.windows(text.len()));
        windows.any(|window| window == text.as_bytes())
    }
}

fn read(span: &Message) -> Span {
    Span {
        name: span.text(5),
        took: Duration::from_nanos(span.number(8) - span.number(7)),
        attributes: attributes(span.all(9)),
    }
}

fn attributes(all: Vec<Message>) -> Vec<(String, Value)> {
    let attributes = all.iter().map(|attribute| {
        let value = &attribute.all(2)[0];
        let value = match value.0.first() {
            Some((1, Field::Bytes(_))) => Value::Word(value.text(1)),
            Some((3, Field::Number(number))) => Value::Number(*number),
            _ => Value::Other,
        };
        (attribute.text(1), value)
    });
    attributes.collect()
}

/// A message of protocol buffers: its fields, by number.
struct Message(Vec<(u64, Field)>);

enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Message {
    fn parse(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut bytes)),
                1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Field::Bytes(take(&mut bytes, length).to_owned())
                }
                5 => Field::Number(
                    u32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap()).into(),
                ),
                kind => panic!("a field of kind {kind}"),
            };
            fields.push((key >> 3, field));
        }
        Self(fields)
    }

    fn bytes(&self, number: u64) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |(found, field)| match field {
            Field::Bytes(bytes) if *found == number => Some(bytes.as_slice()),
            _ => None,
        })
    }

    fn all(&self, number: u64) -> Vec<Self> {
        self.bytes(number).map(Self::parse).collect()
    }

    fn text(&self, number: u64) -> String {
        let bytes = self.bytes(number).next().unwrap_or_default();
        String::from_utf8(bytes.to_owned()).unwrap()
    }

    fn number(&self, number: u64) -> u64 {
        let found = self.0.iter().find_map(|(found, field)| match field {
            Field::Number(value) if *found == number => Some(*value),
            _ => None,
        });
        found.unwrap_or(0)
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
