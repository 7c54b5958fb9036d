//! What a relay says of itself on its admin port.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::failure::Failure;

/// One figure of a relay, as `/metrics` has it, without the prefix `holdfast_relay_`.
pub(crate) async fn figure(admin: SocketAddr, name: &str) -> Result<u64, Failure> {
    let asked = fetch(admin).await;
    let text = asked.map_err(|error| Failure::Demo(format!("{admin}/metrics: {error}")))?;
    find(&text, name).ok_or_else(|| Failure::Demo(format!("{admin}/metrics has no {name}")))
}

async fn fetch(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {admin}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn find(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        let value = line.strip_prefix("holdfast_relay_")?.strip_prefix(name)?;
        value.strip_prefix(' ')
    });
    line?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_whole_name() {
        let text = "# HELP holdfast_relay_online x\nholdfast_relay_online_ever 7\n\
                    holdfast_relay_online 2\nholdfast_relay_stored_total 12\n";
        assert_eq!(find(text, "online"), Some(2));
        assert_eq!(find(text, "stored_total"), Some(12));
        assert_eq!(find(text, "stored"), None);
    }
}
