//! Calls over TLS, against a server whose certificate nobody but `testdata/ca.pem` vouches for.

use super::*;
use crate::domain::attempt::Outcome;
use crate::domain::time::Timestamp;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

const MESSAGE: &str = r#"{"type":"message","content":[{"type":"text","text":"Hi!"}]}"#;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/claude/testdata").join(name)
}

/// Serves one call and closes without TLS's own good-bye, as many servers do.
fn serve_once() -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(testdata("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(testdata("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let session = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        let mut request = Vec::new();
        let mut piece = [0; 4_096];
        while !request.ends_with(b"the end") {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(count) => request.extend_from_slice(&piece[..count]),
            }
        }
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(MESSAGE.as_bytes()).unwrap();
        stream.flush().unwrap();
    });
    port
}

async fn call(ca_file: Option<PathBuf>, host: &str) -> Outcome {
    let config = ClientConfig {
        base_url: format!("https://{host}:{}", serve_once()),
        ca_file,
        ..ClientConfig::default()
    };
    let clock = Clock::manual(Timestamp(1_790_000_000_000));
    let client = Client::new(config, "sk-ant-canary".into(), clock).unwrap();
    client.send(Bytes::from_static(b"the end"), false).await.outcome
}

#[tokio::test]
async fn a_root_of_ones_own_is_trusted() {
    for host in ["127.0.0.1", "localhost"] {
        let outcome = call(Some(testdata("ca.pem")), host).await;
        assert!(
            matches!(&outcome, Outcome::Completed(answer) if answer.text == "Hi!"),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_strangers_certificate_is_not_and_the_key_stays_here() {
    match call(None, "127.0.0.1").await {
        Outcome::Failed(failure) => {
            assert_eq!(failure.class, "connection");
            assert!(failure.message.contains("UnknownIssuer"), "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
}
