//! Faults in the bytes of an answer that was made and billed.

use super::conn::Peer;
use super::fault_kind::Kind;
use super::faults::FaultRule;
use super::reply;
use axum::body::Body;
use axum::http::{HeaderMap, Version};
use axum::response::Response;
use bytes::Bytes;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc, FlushCompress};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::time::Duration;

/// How large a bomb gets when nothing else is said.
const BOMB_BYTES: u64 = 300_000_000;
/// The packed bomb lies in memory: ten megabytes for ten gigabytes.
const BOMB_BYTES_MAX: usize = 10_000_000_000;
/// More than the API or a careful client would take.
const OVERSIZED_BYTES: u64 = 40_000_000;
/// Blank bytes are sent and compressed in pieces of this size.
const PIECE: usize = 1_000_000;

/// Whether the fault ends an answer half-way.
pub(super) fn ends_in_the_middle(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::SseError
            | Kind::SseCut
            | Kind::ResetBody
            | Kind::CutBody
            | Kind::CutChunked
            | Kind::CutClose
    )
}

/// Gives what was written the time to get to the client before the connection ends.
pub(super) async fn let_it_leave() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Removes or garbles the usage in a message or a `message_delta`.
pub(super) fn usage(holder: &mut Value, fault: Option<&FaultRule>, id: &str) {
    let Value::Object(fields) = holder else {
        return;
    };
    match fault.map(|fault| fault.kind) {
        Some(Kind::UsageMissing) => {
            fields.remove("usage");
        }
        Some(Kind::UsageOdd) => {
            // Which oddity it is follows from the id, so that all of them occur.
            let usage = match id.bytes().map(u32::from).sum::<u32>() % 5 {
                0 => json!({ "input_tokens": -5, "output_tokens": -7 }),
                1 => json!({ "input_tokens": "many", "output_tokens": null }),
                2 => {
                    json!({ "input_tokens": 1e300, "output_tokens": 18_446_744_073_709_551_615_u64 })
                }
                3 => json!({ "output_tokens": 3.5, "cache_read_input_tokens": [] }),
                _ => Value::Null,
            };
            fields.insert("usage".to_owned(), usage);
        }
        _ => {}
    }
}

/// Puts a plain answer into a response, with the fault that befalls its bytes.
pub(super) fn plain(response: &mut Response, mut message: Value, fault: &FaultRule, peer: Peer) {
    let id = message["id"].as_str().unwrap_or_default().to_owned();
    usage(&mut message, Some(fault), &id);
    let whole = Bytes::from(message.to_string());
    let (head, tail) = (whole.slice(..whole.len() / 2), whole.slice(whole.len() / 2..));
    let blanks =
        |default: u64| usize::try_from(fault.size.unwrap_or(default)).unwrap_or(usize::MAX);
    let body = match fault.kind {
        Kind::ResetBody => {
            announce(response.headers_mut(), whole.len());
            halves(head, async move {
                let_it_leave().await;
                peer.reset();
                std::future::pending().await
            })
        }
        Kind::CutBody | Kind::CutChunked => {
            if fault.kind == Kind::CutBody {
                announce(response.headers_mut(), whole.len());
            }
            halves(head, async {
                let_it_leave().await;
                Err(io::ErrorKind::ConnectionAborted.into())
            })
        }
        Kind::CutClose => {
            close_delimited(response);
            Body::from_stream(stream::iter([Ok::<_, io::Error>(head)]))
        }
        Kind::StallBody => {
            announce(response.headers_mut(), whole.len());
            let stall = fault.stall();
            halves(head, async move {
                tokio::time::sleep(stall).await;
                Ok(tail)
            })
        }
        Kind::Garbage => Body::from("\u{0}\u{1}{\"type\":\"message\",,, <half a proxy page"),
        Kind::Gzip => compressed(response.headers_mut(), gzip(&whole), whole),
        Kind::GzipBomb => {
            let blanks = blanks(BOMB_BYTES).min(BOMB_BYTES_MAX);
            compressed(response.headers_mut(), gzip_bomb(blanks, &whole), whole)
        }
        Kind::Oversized => {
            let blanks = blanks(OVERSIZED_BYTES).saturating_sub(whole.len());
            announce(response.headers_mut(), blanks + whole.len());
            Body::from_stream(blank_pieces(blanks).chain(stream::iter([Ok(whole)])))
        }
        Kind::Endless => Body::from_stream(blank_pieces(usize::MAX)),
        _ => Body::from(whole),
    };
    *response.body_mut() = body;
}

/// Lets the answer's end be the connection's end, as HTTP/1.0 did.
pub(super) fn close_delimited(response: &mut Response) {
    *response.version_mut() = Version::HTTP_10;
    reply::set(response.headers_mut(), "connection", "close");
}

fn announce(headers: &mut HeaderMap, length: usize) {
    reply::set(headers, "content-length", &length.to_string());
}

fn halves(
    head: Bytes,
    rest: impl Future<Output = Result<Bytes, io::Error>> + Send + 'static,
) -> Body {
    Body::from_stream(stream::iter([Ok(head)]).chain(stream::once(rest)))
}

/// JSON allows blanks before a value, so these bytes alone break nothing but limits.
fn blank_pieces(
    bytes: usize,
) -> impl stream::Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let piece = Bytes::from(vec![b' '; PIECE.min(bytes)]);
    stream::unfold(bytes, move |left| {
        let piece = piece.slice(..left.min(piece.len()));
        std::future::ready((left > 0).then(|| (Ok(piece.clone()), left - piece.len())))
    })
}

fn compressed(headers: &mut HeaderMap, packed: io::Result<Vec<u8>>, whole: Bytes) -> Body {
    match packed {
        Ok(packed) => {
            reply::set(headers, "content-encoding", "gzip");
            Body::from(packed)
        }
        // Writing into memory does not fail; if it did, a plain answer is an answer.
        Err(_) => Body::from(whole),
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// `blanks` bytes of blanks, then `message`, as one gzip member.
///
/// One piece of blanks is compressed once and repeated: its references do not reach back
/// beyond its own start, so the bytes mean the same wherever they stand.
fn gzip_bomb(blanks: usize, message: &[u8]) -> io::Result<Vec<u8>> {
    let piece = vec![b' '; PIECE];
    let mut packed_piece = Vec::with_capacity(PIECE / 100);
    let mut compress = flate2::Compress::new(Compression::best(), false);
    compress.compress_vec(&piece, &mut packed_piece, FlushCompress::Full)?;
    let mut piece_crc = Crc::new();
    piece_crc.update(&piece);

    // Magic, deflate, no flags, no time, no hints, unknown system.
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut crc = Crc::new();
    for _ in 0..blanks / PIECE {
        packed.extend_from_slice(&packed_piece);
        crc.combine(&piece_crc);
    }
    let mut end = DeflateEncoder::new(Vec::new(), Compression::fast());
    end.write_all(message)?;
    packed.extend(end.finish()?);
    crc.update(message);
    packed.extend(crc.sum().to_le_bytes());
    packed.extend(crc.amount().to_le_bytes());
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_bomb_unfolds() {
        let packed = gzip_bomb(5 * PIECE, b"{}").unwrap();
        assert!(packed.len() < 20_000, "{}", packed.len());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), 5 * PIECE + 2);
        assert!(text.ends_with(" {}"));
    }

    #[tokio::test]
    async fn blanks_are_as_many_as_asked_for() {
        for bytes in [0, 1, PIECE, 2 * PIECE + 7] {
            let pieces: Vec<_> = blank_pieces(bytes).collect().await;
            assert_eq!(pieces.into_iter().map(|piece| piece.unwrap().len()).sum::<usize>(), bytes);
        }
    }
}
