//! Arbitrary bytes as messages, frames, sections and reports: whatever decodes encodes to something that decodes to
//! the same.

use lb_core::wire::{
    self, DecodeError, EncodeError, FromEdge, MESSAGE_BYTES_MAX, METRICS_BYTES_MAX, REPORT_BYTES_MAX,
    REQUEST_OVERHEAD, RESPONSE_OVERHEAD_MAX, ServerEntry, ToEdge,
};

/// Runs one input.
///
/// # Panics
/// When a law is broken.
pub fn run(data: &[u8]) {
    message(data);
    from_edge(data);
    to_edge(data);
    report(data);
}

fn message(data: &[u8]) {
    let decoded = wire::decode(data);
    let header = wire::peek(data);
    let (interest, servers) = (wire::interest(data), list(data));
    let message = match decoded {
        Ok(message) => message,
        Err(error) => {
            if header.is_err() {
                assert!(matches!(wire::decode(data), Err(same) if same == error));
                assert!(interest.is_none() && servers.is_none());
            }
            return;
        }
    };
    assert_eq!(header, Ok(message.header));
    assert_eq!(wire::from_edge(data), Ok(FromEdge::Message(data)));
    assert_eq!(wire::to_edge(data), Ok(ToEdge::Message(data)));

    let mut bytes = vec![0; MESSAGE_BYTES_MAX + data.len() + 16];
    let used = wire::encode(&message, &mut bytes[..MESSAGE_BYTES_MAX]).expect("MESSAGE_BYTES_MAX suffices");
    assert!(used <= data.len(), "the shortest form");
    assert_eq!(wire::decode(&bytes[..used]).as_ref(), Ok(&message));
    let short = wire::encode(&message, &mut bytes[..used - 1]);
    assert_eq!(short, Err(EncodeError::BufferTooSmall));
    let again = wire::encode(&message, &mut bytes[..used]);
    assert_eq!(again, Ok(used));

    let mut end = used;
    if let Some(interest) = &interest {
        end = wire::append_interest(interest, &mut bytes, end).expect("as much room as it had");
    }
    if let Some(servers) = &servers {
        end = wire::append_servers(servers.iter().copied(), &mut bytes, end).expect("as much room as it had");
    }
    let metrics = wire::metrics(data);
    if let Some(metrics) = &metrics {
        bytes.resize(end + METRICS_BYTES_MAX, 0);
        end = wire::append_metrics(metrics, &mut bytes, end).expect("METRICS_BYTES_MAX suffices");
    }
    let whole = &bytes[..end];
    assert_eq!(wire::decode(whole).as_ref(), Ok(&message));
    assert_eq!(
        wire::metrics(whole),
        metrics.filter(|metrics| !metrics.is_empty())
    );
    assert_eq!(wire::interest(whole), interest);
    assert_eq!(list(whole), servers);
}

fn list(data: &[u8]) -> Option<Vec<ServerEntry<'_>>> {
    wire::servers(data).map(Iterator::collect)
}

fn from_edge(data: &[u8]) {
    let Ok(frame) = wire::from_edge(data) else { return };
    let mut bytes = vec![0; data.len()];
    let used = match &frame {
        FromEdge::Message(bytes) => return assert_eq!(*bytes, data),
        FromEdge::Request(request) => {
            let used = request.encode(&mut bytes).expect("as much room as it had");
            assert_eq!(used, REQUEST_OVERHEAD + request.method.len() + request.body.len());
            let short = request.encode(&mut bytes[..used - 1]);
            assert_eq!(short, Err(EncodeError::BufferTooSmall));
            request.encode(&mut bytes[..used])
        }
        FromEdge::Cancel { life, call } => wire::encode_cancel(*life, *call, &mut bytes),
    };
    let used = used.expect("as much room as it had");
    assert_eq!(wire::from_edge(&bytes[..used]), Ok(frame));
    let unknown = DecodeError::UnknownKind(data[1]);
    assert_eq!(wire::to_edge(data), Err(unknown), "only an edge sends it");
}

fn to_edge(data: &[u8]) {
    let Ok(frame) = wire::to_edge(data) else { return };
    let mut bytes = vec![0; data.len() + RESPONSE_OVERHEAD_MAX];
    let used = match &frame {
        ToEdge::Message(bytes) => return assert_eq!(*bytes, data),
        ToEdge::Response(response) => {
            let used = response
                .encode(&mut bytes)
                .expect("RESPONSE_OVERHEAD_MAX suffices");
            assert!(used <= RESPONSE_OVERHEAD_MAX + response.body.len());
            let short = response.encode(&mut bytes[..used - 1]);
            assert_eq!(short, Err(EncodeError::BufferTooSmall));
            response.encode(&mut bytes[..used])
        }
        ToEdge::Working { call } => wire::encode_working(*call, &mut bytes),
    };
    let used = used.expect("as much room as it had");
    assert_eq!(wire::to_edge(&bytes[..used]), Ok(frame));
    let unknown = DecodeError::UnknownKind(data[1]);
    assert_eq!(wire::from_edge(data), Err(unknown), "only a server sends it");
}

fn report(data: &[u8]) {
    match wire::decode_report(data) {
        Ok(report) => {
            let mut bytes = [0; REPORT_BYTES_MAX];
            let used = wire::encode_report(&report, &mut bytes).expect("REPORT_BYTES_MAX suffices");
            assert_eq!(wire::decode_report(&bytes[..used]), Ok(report));
        }
        Err(error) => assert_eq!(error, DecodeError::Malformed),
    }
}
