//! URIs: what is read from them, and what is refused.

use super::Uri;
use crate::error::Error;
use proptest::prelude::*;
use std::path::Path;

fn refused(text: &str) {
    assert_eq!(Uri::parse(text).err(), Some(Error::InvalidArgument), "{text}");
}

#[test]
fn every_attribute_is_read() {
    let uri = Uri::parse(
        "pkcs11:token=The%20Office;manufacturer=Acme;model=M%3b1;serial=00:42;slot-id=7;slot-description=left;\
         slot-manufacturer=A;library-description=L;library-manufacturer=M;library-version=2.6;object=my+server;\
         id=%00%ff~;type=private?module-path=/usr/lib/m.so&pin-value=12%2634&x-curve-tun-state=/var/lib/s",
    )
    .unwrap();
    let is = |field: &Option<String>, text: &str| assert_eq!(field.as_deref(), Some(text));
    is(&uri.token, "The Office");
    is(&uri.manufacturer, "Acme");
    is(&uri.model, "M;1");
    is(&uri.serial, "00:42");
    is(&uri.slot_description, "left");
    is(&uri.slot_manufacturer, "A");
    is(&uri.library_description, "L");
    is(&uri.library_manufacturer, "M");
    is(&uri.object, "my+server");
    assert_eq!((uri.slot_id, uri.library_version), (Some(7), Some((2, 6))));
    assert_eq!(uri.id.as_deref(), Some(&[0, 0xff, b'~'][..]));
    assert_eq!(uri.module_path.as_deref(), Some(Path::new("/usr/lib/m.so")));
    assert_eq!(uri.state.as_deref(), Some(Path::new("/var/lib/s")));
    assert!(uri.pin_value.is_some() && uri.pin_source.is_none());
}

#[test]
fn a_version_may_lack_its_minor_number() {
    let uri = Uri::parse("pkcs11:library-version=2").unwrap();
    assert_eq!(uri.library_version, Some((2, 0)));
}

#[test]
fn the_scheme_has_no_case_and_both_lists_may_be_empty() {
    for text in ["pkcs11:", "PKCS11:", "Pkcs11:?", "pkcs11:object=o?"] {
        Uri::parse(text).unwrap();
    }
    for text in ["", "pkcs11", "pkcs12:", "token=t", "pkcs11 :", "file:///pkcs11:"] {
        refused(text);
    }
}

#[test]
fn a_pin_source_is_a_path_or_a_file_uri() {
    for text in ["/etc/pin", "file:/etc/pin", "file:///etc/pin", "%2fetc%2fpin"] {
        let uri = Uri::parse(&format!("pkcs11:?pin-source={text}")).unwrap();
        assert_eq!(uri.pin_source.as_deref(), Some(Path::new("/etc/pin")));
    }
    for text in ["pin", "|cat", "%7Ccat%20/etc/pin", "http://x/", "file:pin", ""] {
        refused(&format!("pkcs11:?pin-source={text}"));
    }
}

#[test]
fn what_is_not_understood_whole_is_refused() {
    for text in [
        "pkcs11:token",
        "pkcs11:token=a;token=a",
        "pkcs11:token=a;;object=b",
        "pkcs11:token=a;",
        "pkcs11:colour=red",
        "pkcs11:Token=a",
        "pkcs11:type=cert",
        "pkcs11:type=private;type=private",
        "pkcs11:token=a b",
        "pkcs11:token=a/b",
        "pkcs11:token=%",
        "pkcs11:token=%4",
        "pkcs11:token=%4g",
        "pkcs11:token=%+1",
        "pkcs11:token=%ff",
        "pkcs11:token=\u{e4}",
        "pkcs11:slot-id=",
        "pkcs11:slot-id=+1",
        "pkcs11:slot-id=0x1",
        "pkcs11:slot-id=18446744073709551616",
        "pkcs11:library-version=1.256",
        "pkcs11:library-version=1.2.3",
        "pkcs11:?module-path=m.so",
        "pkcs11:?module-name=m",
        "pkcs11:?module-path=/a&module-path=/a",
        "pkcs11:?pin-value=",
        "pkcs11:?pin-value=1&pin-source=/p",
        "pkcs11:?x-curve-tun-state=here",
        "pkcs11:?token=a",
        "pkcs11:module-path=/a",
    ] {
        refused(text);
    }
    refused(&format!("pkcs11:?pin-value={}", "1".repeat(256)));
}

/// All of it percent-encoded.
fn encoded(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn values_come_out_as_they_were_encoded(token in ".{1,64}", object in ".{1,64}", id: Vec<u8>, slot: u64) {
        let text = format!(
            "pkcs11:id={};object={};slot-id={slot};token={}",
            encoded(&id), encoded(object.as_bytes()), encoded(token.as_bytes()),
        );
        let uri = Uri::parse(&text).unwrap();
        prop_assert_eq!(uri.token, Some(token));
        prop_assert_eq!(uri.object, Some(object));
        prop_assert_eq!((uri.id, uri.slot_id), (Some(id), Some(slot)));
    }

    #[test]
    fn characters_that_may_stand_for_themselves_do(token in "[a-zA-Z0-9._~:@!$'()*+,=&\\[\\]-]{1,64}") {
        let uri = Uri::parse(&format!("pkcs11:token={token}")).unwrap();
        prop_assert_eq!(uri.token, Some(token));
    }

    #[test]
    fn no_text_is_too_odd(text: String) {
        let _ = Uri::parse(&text);
        let _ = Uri::parse(&format!("pkcs11:{text}"));
        let _ = Uri::parse(&format!("pkcs11:?{text}"));
    }
}
