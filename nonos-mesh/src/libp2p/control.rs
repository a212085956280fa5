//! The control stream of one link: two tasks between the stream and the driver.

use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::Stream;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::frame::{FrameDecoder, encode_frame};
use crate::io::LinkId;
use crate::mesh::Mesh;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// What happens on a control stream.
#[derive(Debug)]
pub(super) enum FromLink {
    Frame {
        link: LinkId,
        bytes: Vec<u8>,
    },
    Sent {
        link: LinkId,
        bytes: usize,
    },
    /// The stream ended or broke the framing.
    Ended {
        link: LinkId,
    },
}

/// The tasks of one control stream; dropping it ends them.
#[derive(Debug)]
pub(super) struct Control {
    frames: mpsc::UnboundedSender<Arc<[u8]>>,
    tasks: [AbortHandle; 2],
}

impl Control {
    pub(super) fn spawn(link: LinkId, stream: Stream, to_driver: &mpsc::Sender<FromLink>) -> Self {
        let (reader, writer) = stream.split();
        // The core hands out a window of bytes and waits for `Sent`: the queue stays short.
        let (frames, queue) = mpsc::unbounded_channel();
        let read = tokio::spawn(read(link, reader, to_driver.clone()));
        let write = tokio::spawn(write(link, writer, queue, to_driver.clone()));
        Self { frames, tasks: [read.abort_handle(), write.abort_handle()] }
    }

    pub(super) fn send(&self, frame: Arc<[u8]>) {
        // A writer that is gone has said `Ended`; the frame is lost with the link.
        let _ = self.frames.send(frame);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn read(link: LinkId, mut stream: ReadHalf<Stream>, to_driver: mpsc::Sender<FromLink>) {
    let mut decoder = FrameDecoder::new(Mesh::MAX_FRAME_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        decoder.push(buffer.get(..len).unwrap_or_default());
        loop {
            match decoder.next_frame() {
                // Waiting here is the backpressure on the peer.
                Ok(Some(bytes)) => {
                    if to_driver.send(FromLink::Frame { link, bytes }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let _ = to_driver.send(FromLink::Ended { link }).await;
                    return;
                }
            }
        }
    }
    let _ = to_driver.send(FromLink::Ended { link }).await;
}

async fn write(
    link: LinkId,
    mut stream: WriteHalf<Stream>,
    mut queue: mpsc::UnboundedReceiver<Arc<[u8]>>,
    to_driver: mpsc::Sender<FromLink>,
) {
    while let Some(frame) = queue.recv().await {
        let Ok(framed) = encode_frame(&frame, Mesh::MAX_FRAME_BYTES) else { continue };
        let mut done = stream.write_all(&framed).await;
        if done.is_ok() && queue.is_empty() {
            done = stream.flush().await;
        }
        let event = match done {
            Ok(()) => FromLink::Sent { link, bytes: frame.len() },
            Err(_) => FromLink::Ended { link },
        };
        if to_driver.send(event).await.is_err() || done.is_err() {
            return;
        }
    }
}
