//! What is done again and what is not, and that the same comes out.

use crate::site::Site;
use runtime::builder::share::{self, SharedCache};
use runtime::builder::{Caching, InlineCache, base_references, complete_cache, context_digest};
use runtime::image::registry::IsWanted;
use spec::value::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

const TEXT: &str = "FROM busybox\nCOPY src /src/\nRUN cat /src/a > /out\nENV X=1\nCOPY other /\nRUN true";

#[test]
fn only_what_changed_is_done_again() {
    let Some(mut site) = Site::with_busybox() else { return };
    site.file("src/a", "1").file("other", "o").file("not-copied", "n");
    let first = site.build(TEXT);
    assert_eq!(first.cached(), 0);
    let again = site.build(TEXT);
    assert_eq!((again.cached(), again.id), (4, first.id));

    site.file("not-copied", "changed");
    assert_eq!(site.build(TEXT).cached(), 4, "a file that no step copies");
    let later = SystemTime::now() + Duration::from_secs(1000);
    fs::File::options().write(true).open(site.path("src/a")).and_then(|file| file.set_modified(later)).expect("time");
    assert_eq!(site.build(TEXT).cached(), 4, "a time is no content");
    site.file("other", "changed");
    assert_eq!(site.build(TEXT).cached(), 2, "the step that copies it, and the one after");
    site.mode("src/a", 0o755);
    assert_eq!(site.build(TEXT).cached(), 0, "a mode is content");
    site.mode("src/a", 0o644).file("other", "o");
    assert_eq!((site.build(TEXT).cached(), site.build(TEXT).id), (4, first.id), "back again");
    assert_eq!(site.build(&TEXT.replace("X=1", "X=2")).cached(), 3, "what runs with another environment");
    assert_eq!(site.build(&TEXT.replace("/out", "/out2")).cached(), 1);

    site.request.caching = Caching::IgnoreStages(["no-such".to_owned()].into());
    assert_eq!(site.build(TEXT).cached(), 4);
    site.request.caching = Caching::IgnoreStages(["last".to_owned()].into());
    assert_eq!(site.build(&format!("FROM busybox AS first\nRUN true\n{}", TEXT.replace("busybox", "busybox AS last"))).cached(), 0);
    site.request.caching = Caching::Ignore;
    let fresh = site.build(TEXT);
    assert_eq!((fresh.cached(), fresh.id), (0, first.id), "done again it comes out the same");
}

#[test]
fn same_size_and_same_time_is_still_another_content() {
    let Some(site) = Site::new() else { return };
    let text = "FROM scratch\nCOPY a /";
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let write = |content: &str| {
        site.file("a", content);
        fs::File::options().write(true).open(site.path("a")).and_then(|file| file.set_modified(at)).expect("time");
    };
    write("one");
    site.build(text);
    write("two");
    assert_eq!(site.build(text).below("/a"), ["/a 0644 0:0 f two"]);
}

#[test]
fn a_layer_that_was_collected_is_made_again() {
    let Some(site) = Site::new() else { return };
    site.file("a", "a");
    let first = site.build("FROM scratch\nCOPY a /");
    site.store.remove(&first.id).expect("remove");
    // Waited for: while another test starts a program, that has our locks open for a moment.
    let alone = site.store.alone_in_time().expect("the store alone");
    site.store.sweep(&alone, &runtime::image::store::Roots::default()).expect("collect");
    drop(alone);
    assert!(!site.store.has_layer(&first.config.rootfs.diff_ids[0]));
    let second = site.build("FROM scratch\nCOPY a /");
    assert_eq!((second.cached(), second.id), (0, first.id));
}

#[test]
fn two_stores_agree_on_any_day() {
    let build = |age: u64| {
        let site = Site::with_busybox()?;
        site.file("src/a", "1").file("other", "o");
        let time = SystemTime::now() - Duration::from_secs(age);
        for file in ["src/a", "other"] {
            fs::File::options().write(true).open(site.path(file)).and_then(|file| file.set_modified(time)).expect("time");
        }
        Some(site.build(&format!("{TEXT}\nRUN mkdir -p /made/by/run && touch -d @1500000000 /made/old\nWORKDIR /made/here")).id)
    };
    let first = build(0);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(first, build(5000));
}

#[test]
fn source_date_epoch_dates_everything() {
    let Some(mut site) = Site::with_busybox() else { return };
    site.file("a", "a");
    site.request.args.insert("SOURCE_DATE_EPOCH".to_owned(), "1000000000".to_owned());
    let built = site.build("FROM busybox\nCOPY a /\nRUN touch /b && touch -d @1500000000 /c && touch -d @900000000 /d");
    assert_eq!(built.config.created.as_deref(), Some("2001-09-09T01:46:40Z"));
    let layers = site.store.image(&built.id).expect("image").layers;
    let time = |layer: &Path, name: &str| std::os::unix::fs::MetadataExt::mtime(&fs::metadata(layer.join(name)).expect("file"));
    let run = layers.last().expect("layers");
    assert_eq!(["b", "c", "d"].map(|name| time(run, name)), [1_000_000_000, 1_000_000_000, 900_000_000]);
    assert_eq!(time(&layers[layers.len() - 2], "a"), 1_000_000_000);
    site.request.args.insert("SOURCE_DATE_EPOCH".to_owned(), "yesterday".to_owned());
    assert!(site.refusal("FROM busybox").contains("SOURCE_DATE_EPOCH is \"yesterday\", not a number of seconds since 1970"));
}

#[test]
fn the_context_has_a_digest() {
    let Some(site) = Site::new() else { return };
    site.file("Dockerfile", "FROM scratch\nCOPY . /\n").file("a", "a").file(".dockerignore", "ignored\n").file("ignored", "1");
    let index = site.root().join("index");
    let digest = || context_digest(&site.request.context, Path::new("Dockerfile"), Some(&index)).expect("digest");
    let first = digest();
    assert_eq!(digest(), first);
    site.file("ignored", "2");
    assert_eq!(digest(), first);
    site.file("a", "b");
    assert_ne!(digest(), first);
    site.file("a", "a");
    assert_eq!(digest(), first);
    site.mode("a", 0o755);
    assert_ne!(digest(), first);
    assert_eq!(context_digest(&site.request.context, Path::new("Dockerfile"), None).expect("digest"), digest());
    let missing = context_digest(&site.request.context, Path::new("None"), None).expect_err("no Dockerfile").to_string();
    assert!(missing.starts_with("there is no \"None\" in the build context"), "{missing}");
}

#[test]
fn references_of_a_dockerfile() {
    let text =
        "ARG V=1\nFROM a:$V AS one\nCOPY --from=b:2 /x /\nFROM scratch\nCOPY --from=one /x /\nCOPY --from=c /x /\nFROM unused AS last";
    let references = |args: &[(&str, &str)], target| {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>();
        base_references("Dockerfile", text, &args, target).expect("parses").into_iter().collect::<Vec<_>>()
    };
    assert_eq!(references(&[], Some("1")), ["a:1", "b:2", "c"]);
    assert_eq!(references(&[("V", "9")], Some("one")), ["a:9", "b:2"]);
    assert_eq!(references(&[], None), ["unused"]);
}

#[test]
fn a_cache_goes_to_another_store_within_an_image() {
    let (Some(here), Some(mut there)) = (Site::with_busybox(), Site::with_busybox()) else { return };
    let text =
        "FROM busybox AS one\nRUN echo 1 > /one; echo > /only-here\nRUN true\nFROM busybox\nCOPY --from=one /one /\nRUN echo 2 > /two";
    let (result, _) = here.try_build_all(text);
    let built = result.expect("builds");
    assert_eq!(built.steps.len(), 4);
    let all = share::export(&here.store, &built.steps).expect("export");
    assert_eq!(share::export(&here.store, &built.steps).expect("export"), all);
    let few = share::steps_of(&here.store, &built.image, &built.steps).expect("steps");
    assert_eq!(few.len(), 3, "of the first stage only the step without a layer");
    let layers = here.store.image(&all).expect("image").config.rootfs.diff_ids;
    assert_eq!(layers.len(), 3);

    // Nothing of the first stage is looked into: of it no layer is fetched, though its steps are known.
    let config = here.store.image(&all).expect("image").config;
    let fetched = Mutex::new(Vec::new());
    let cache = |gone: &[Digest]| {
        let (gone, fetched, here, there) = (gone.to_vec(), &fetched, &here.store, &there.store);
        let fetch = move |layer: &Digest, _: &IsWanted<'_>| {
            fetched.lock().expect("fetched").push(*layer);
            if gone.contains(layer) {
                return Err("it is gone".into());
            }
            let mut stream = Vec::new();
            here.export_layer(layer, &mut stream)?;
            Ok(there.import_layer(stream.as_slice()).map(drop)?)
        };
        SharedCache::new(all, &config, Box::new(fetch)).expect("a cache")
    };
    assert_eq!(cache(&[]).len(), 4);
    let image = here.store.image(&built.image).expect("image").config.rootfs.diff_ids;
    let [.., gone, two] = image[..] else { panic!("{image:?}") };
    // The layer of COPY cannot be had: what it copies is needed after all.
    let (again, events) = there.try_build_with(text, &[cache(&[gone])]);
    assert_eq!(again.expect("builds").image, built.image, "the same files have the same layer");
    assert!(events.iter().any(|event| event.contains(&format!("layer {gone} of the build cache: it is gone"))), "{events:?}");
    let mut asked = fetched.lock().expect("fetched").split_off(0);
    asked.sort();
    let mut expected = vec![two, gone, *layers.iter().find(|layer| !image.contains(layer)).expect("the first stage's")];
    expected.sort();
    assert_eq!(asked, expected, "each once");
    // What came is remembered, without the cache too.
    let again = there.build(text);
    assert_eq!((again.cached(), again.id), (4, built.image));
    assert!(fetched.lock().expect("fetched").is_empty());

    there.request.inline_cache = InlineCache::Add;
    let inline = there.build(text);
    assert_ne!(inline.id, again.id);
    let nowhere = |layer: &Digest, _: &IsWanted<'_>| Err(format!("{layer} is not asked for").into());
    assert_eq!(SharedCache::new(inline.id, &inline.config, Box::new(nowhere)).expect("a cache").len(), 3);
    assert!(SharedCache::new(again.id, &again.config, Box::new(nowhere)).is_err(), "an image that says nothing of it");
    there.request.inline_cache = InlineCache::Omit;
    there.request.bases.insert("base".to_owned(), inline.id);
    let child = there.build("FROM base\nENV A=1");
    assert!(child.config.other.is_empty(), "it says nothing of an image built on it: {:?}", child.config.other);
}

#[test]
fn of_a_shared_cache_only_what_is_needed_comes() {
    let (Some(here), Some(there)) = (Site::with_busybox(), Site::with_busybox()) else { return };
    let text = |last: &str| {
        format!("FROM busybox AS one\nRUN echo 1 > /one; echo > /only-here\nRUN true\nFROM busybox\nCOPY --from=one /one /\nRUN {last}")
    };
    let built = here.try_build_all(&text("echo 2 > /two")).0.expect("builds");
    let all = share::export(&here.store, &built.steps).expect("export");
    let config = here.store.image(&all).expect("image").config;
    let fetched = Mutex::new(Vec::new());
    let fetch = |layer: &Digest, _: &IsWanted<'_>| {
        fetched.lock().expect("fetched").push(*layer);
        let mut stream = Vec::new();
        here.store.export_layer(layer, &mut stream)?;
        Ok(there.store.import_layer(stream.as_slice()).map(drop)?)
    };
    let caches = [SharedCache::new(all, &config, Box::new(fetch)).expect("a cache")];
    let image = here.store.image(&built.image).expect("image").config.rootfs.diff_ids;
    let copied = image[image.len() - 2];

    // The last step is another one: it runs on what the one before it made, and that is all that comes.
    let (other, events) = there.try_build_with(&text("ls /one > /three"), &caches);
    let mut other = other.expect("builds");
    assert_eq!(*fetched.lock().expect("fetched"), [copied], "{events:?}");
    // Whoever takes all steps elsewhere needs all layers.
    complete_cache(&there.store, &caches, &mut other.steps).expect("complete");
    assert_eq!((fetched.lock().expect("fetched").len(), other.steps.len()), (2, 4));
    share::export(&there.store, &other.steps).expect("export");
}
