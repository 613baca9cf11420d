//! A web service on tokio beside a node: HTTP in, NATS out. `axum_bridge [SERVER [LISTEN]]`
//!
//! ```text
//! curl -d 'hello' http://127.0.0.1:8080/publish/news
//! curl -d 'abc'   http://127.0.0.1:8080/request/rpc.upper
//! ```
//! The handle's futures are `Send` and need no particular executor; the shards keep their own cores. SIGTERM and
//! Ctrl-C end the service first, and then drain the node.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use croupier::{BoxError, Node, NodeHandle, PublishError, RequestError};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let node = Node::builder().cluster("c1", [server]).shards(1).start(async |shard| {
        let mut requests = shard.subscribe("rpc.upper").await?;
        while let Some(request) = requests.next().await {
            request.respond(request.payload().to_ascii_uppercase())?;
        }
        Ok(())
    })?;
    let handle = node.handle();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(handle.clone(), listen))?;
    futures_lite::future::block_on(handle.drain())?;
    node.join()?;
    println!("drained");
    Ok(())
}

async fn serve(handle: NodeHandle, listen: String) -> Result<(), BoxError> {
    let app = Router::new()
        .route("/publish/{topic}", post(publish))
        .route("/request/{topic}", post(request))
        .with_state(handle);
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    println!("listening on {}", listener.local_addr()?);
    let stop = async move {
        futures_lite::future::or(terminated.recv(), interrupted.recv()).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    Ok(())
}

async fn publish(
    State(handle): State<NodeHandle>,
    Path(topic): Path<String>,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, String)> {
    handle.publish(topic, body).map_err(|error| {
        let status = match error {
            PublishError::InvalidTopic(_) => StatusCode::BAD_REQUEST,
            PublishError::PayloadTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, error.to_string())
    })?;
    Ok(StatusCode::ACCEPTED)
}

async fn request(
    State(handle): State<NodeHandle>,
    Path(topic): Path<String>,
    body: Bytes,
) -> Result<Vec<u8>, (StatusCode, String)> {
    let answer = handle.request(topic, body).await.map_err(|error| {
        let status = match error {
            RequestError::InvalidTopic(_) => StatusCode::BAD_REQUEST,
            RequestError::NoResponders { .. } => StatusCode::NOT_FOUND,
            RequestError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        (status, error.to_string())
    })?;
    Ok(answer.payload().to_vec())
}
