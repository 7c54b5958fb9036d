//! A relay's metrics, read as Prometheus would.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::net::within;

/// What a path of the admin port answers: the status line's code, and the body.
pub async fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = within("an HTTP answer", asked)
        .await
        .expect("an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status code");
    (code, body.to_owned())
}

/// The value of a relay's own metric, written as in the exposition, labels included, without the prefix.
pub async fn metric(admin: SocketAddr, name: &str) -> f64 {
    process_metric(admin, &format!("holdfast_relay_{name}")).await
}

/// The value of a metric that every process may have.
pub async fn process_metric(admin: SocketAddr, name: &str) -> f64 {
    let (code, text) = get(admin, "/metrics").await;
    assert_eq!(code, 200);
    let line = format!("{name} ");
    let value = text.lines().find_map(|found| found.strip_prefix(&line));
    value.map_or(0.0, |value| value.trim().parse().expect("a number"))
}
