//! No bytes are a danger.

use lb_core::wire::seal::{ChaCha20Poly1305, peek, verify_hello};
use proptest::prelude::*;

use crate::ends::{Pair, hello, key, open, seal, session, state};

proptest! {
    #[test]
    fn any_bytes_are_no_danger(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..6_u8, ours in any::<bool>()) {
        if ours && bytes.len() > 14 {
            bytes[..14].copy_from_slice(&[1, kind, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1]);
        }
        let (mut edge, mut server) = session::<ChaCha20Poly1305>();
        let mut pair = Pair::new();
        let (mut initiator, _) = hello::<ChaCha20Poly1305>(key(1), 2);
        let before = (state(&edge), state(&server), format!("{:?}", pair.seat), format!("{initiator:?}"));
        let _ = peek(&bytes);
        prop_assert!(verify_hello::<ChaCha20Poly1305>(&[key(1)], &bytes).is_err());
        prop_assert!(initiator.handle_welcome(&bytes).is_err());
        prop_assert!(open(&mut edge, &bytes).is_err());
        prop_assert!(open(&mut server, &bytes).is_err());
        prop_assert!(pair.seat.open(&mut bytes.clone()).is_err());
        let after = (state(&edge), state(&server), format!("{:?}", pair.seat), format!("{initiator:?}"));
        prop_assert_eq!(before, after);
    }

    #[test]
    fn changed_datagrams_leave_no_trace(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4), payload in prop::collection::vec(any::<u8>(), 0..64)
    ) {
        let mut pair = Pair::new();
        let genuine = seal(&mut pair.edge, &payload);
        let mut changed = genuine.clone();
        for (at, by) in changes {
            let at = at.index(changed.len());
            changed[at] ^= by;
        }
        prop_assume!(changed != genuine);
        let before = format!("{:?}", pair.seat);
        prop_assert!(pair.seat.open(&mut changed).is_err());
        prop_assert_eq!(format!("{:?}", pair.seat), before);
        let mut genuine = genuine;
        prop_assert_eq!(pair.seat.open(&mut genuine).map(|opened| opened.payload.to_vec()), Ok(payload));
    }
}
