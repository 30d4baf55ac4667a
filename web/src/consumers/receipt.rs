//! Whether a reply arrived, as far as a server can tell.
//!
//! A poll moves the position of a consumer, so what was polled must have gone to the client before
//! the position counts as moved. [`Receipt`] travels with the reply to where its body is sent;
//! [`ReceiptBody`] says yes when every byte was handed to the socket, and no when the connection
//! ended first.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
};
use bytes::Bytes;

/// Tells once whether a reply was handed over. Dropped untold it tells that it was not.
pub(crate) struct Receipt(Option<Box<dyn FnOnce(bool)>>);

impl Receipt {
    /// `tell` is called once, and must not wait.
    pub(crate) fn new(tell: impl FnOnce(bool) + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// Tells it.
    pub(crate) fn settle(mut self, received: bool) {
        self.tell(received);
    }

    fn tell(&mut self, received: bool) {
        if let Some(tell) = self.0.take() {
            tell(received);
        }
    }

    /// Lays the receipt into a reply; it is taken out where the reply leaves.
    pub(crate) fn accompany(self, reply: &mut HttpResponse) {
        reply.extensions_mut().insert(self);
    }

    /// The reply with a body that settles its receipt, if it has one.
    pub(crate) fn attach(mut reply: HttpResponse) -> HttpResponse {
        let receipt = reply.extensions_mut().remove::<Self>();
        match receipt {
            Some(receipt) => {
                reply.map_body(|_, body| BoxBody::new(ReceiptBody { body, stage: Stage::Sending, receipt }))
            }
            None => reply,
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.tell(false);
    }
}

/// A body that settles a receipt at its end.
struct ReceiptBody {
    body: BoxBody,
    stage: Stage,
    receipt: Receipt,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sending,
    /// The last piece lies in the connection's buffer.
    Flushing,
    Sent,
}

impl MessageBody for ReceiptBody {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.stage == Stage::Sending {
            match Pin::new(&mut self.body).poll_next(context) {
                Poll::Ready(None) => {
                    // A connection writes its buffer out when a body has nothing to add. A connection
                    // that is broken shows it then, and this body is dropped instead of asked again.
                    self.stage = Stage::Flushing;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                progress => return progress,
            }
        }
        if self.stage == Stage::Flushing {
            self.stage = Stage::Sent;
            self.receipt.tell(true);
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use futures_util::task::noop_waker_ref;

    use super::*;

    fn told() -> (Rc<RefCell<Vec<bool>>>, Receipt) {
        let told = Rc::new(RefCell::new(Vec::new()));
        let teller = Rc::clone(&told);
        (told, Receipt::new(move |received| teller.borrow_mut().push(received)))
    }

    fn reply(receipt: Receipt) -> BoxBody {
        let mut reply = HttpResponse::Ok().body("abc");
        receipt.accompany(&mut reply);
        let reply = Receipt::attach(reply);
        assert_eq!(reply.body().size(), BodySize::Sized(3));
        reply.into_body()
    }

    #[test]
    fn a_body_is_received_when_the_connection_had_the_time_to_send_it() {
        let (told, receipt) = told();
        let mut body = reply(receipt);
        let mut context = Context::from_waker(noop_waker_ref());
        let mut next = || Pin::new(&mut body).poll_next(&mut context).map(|item| item.map(Result::unwrap));
        assert_eq!(next(), Poll::Ready(Some(Bytes::from_static(b"abc"))));
        assert_eq!(next(), Poll::Pending);
        assert!(told.borrow().is_empty());
        assert_eq!(next(), Poll::Ready(None));
        assert_eq!(next(), Poll::Ready(None));
        drop(body);
        assert_eq!(*told.borrow(), [true], "it is told once");
    }

    #[test]
    fn a_body_that_is_dropped_was_not_received() {
        for pieces in 0..3 {
            let (told, receipt) = told();
            let mut body = reply(receipt);
            let mut context = Context::from_waker(noop_waker_ref());
            for _ in 0..pieces {
                assert!(!matches!(Pin::new(&mut body).poll_next(&mut context), Poll::Ready(None)));
            }
            drop(body);
            assert_eq!(*told.borrow(), [false], "after {pieces} pieces");
        }
        let (told, receipt) = told();
        receipt.settle(true);
        assert_eq!(*told.borrow(), [true]);
    }
}
