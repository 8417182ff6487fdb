//! The watch on a real folder: nothing here calls `reload`.

use std::os::unix::fs::symlink;

use super::*;

fn title<'a>(snapshot: &'a Snapshot, id: &str) -> &'a str {
    snapshot.providers.get(id).map_or("", |provider| &provider.title)
}

#[tokio::test]
async fn a_written_file_is_noticed() {
    let bench = Bench::new().with("one").open();
    bench.write("two", "");
    bench
        .reloaded(|snapshot| snapshot.providers.contains_key("two"))
        .await;
    bench.remove("two");
    bench
        .reloaded(|snapshot| !snapshot.providers.contains_key("two"))
        .await;
}

#[tokio::test]
async fn a_file_renamed_over_another_is_noticed_each_time() {
    let bench = Bench::new().with("one").open();
    for round in ["first", "second", "third"] {
        let draft = bench.file(".one.yaml.swp");
        fs::write(&draft, text("one", &format!(r#", "title": "{round}""#))).expect("it can be written");
        fs::rename(&draft, bench.file("one.yaml")).expect("it can be renamed");
        bench.reloaded(|snapshot| title(snapshot, "one") == round).await;
    }
}

/// The steps of the kubelet's atomic writer.
fn mount(folder: &Path, stamp: &str, files: &[(&str, String)]) {
    let old = fs::read_link(folder.join("..data")).ok();
    let fresh = folder.join(stamp);
    fs::create_dir(&fresh).expect("a folder");
    for (name, text) in files {
        fs::write(fresh.join(name), text).expect("a file");
    }
    symlink(stamp, folder.join("..data_tmp")).expect("a link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the swap");
    for (name, _) in files {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link).expect("a link");
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old)).expect("the old folder");
    }
}

#[tokio::test]
async fn the_link_swap_of_a_mounted_config_map_is_noticed_each_time() {
    let bench = Bench::new();
    let other = ("two.yaml", text("two", ""));
    mount(
        &bench.folder(),
        "..2026_11_21_0",
        &[("one.yaml", text("one", "")), other.clone()],
    );
    let bench = bench.open();
    let two = bench.provider("two");
    for round in ["1", "2", "3"] {
        let one = ("one.yaml", text("one", &format!(r#", "title": "{round}""#)));
        mount(
            &bench.folder(),
            &format!("..2026_11_21_{round}"),
            &[one, other.clone()],
        );
        bench.reloaded(|snapshot| title(snapshot, "one") == round).await;
    }
    assert!(Arc::ptr_eq(&two, &bench.provider("two")));
    assert!(bench.catalog().report().get("refused").is_none());
}

#[tokio::test]
async fn a_folder_that_was_deleted_is_watched_again_when_it_is_back() {
    let bench = Bench::new().with("one").open();
    fs::remove_dir_all(bench.folder()).expect("it can be removed");
    let mut reloads = bench.catalog().reloads();
    soon(reloads.wait_for(|reload| reload.outcome == ReloadOutcome::Refused))
        .await
        .expect("the catalogue is there");
    assert!(bench.catalog().snapshot().providers.contains_key("one"));

    fs::create_dir(bench.folder()).expect("it was removed");
    bench.write("two", "");
    bench
        .reloaded(|snapshot| snapshot.providers.contains_key("two"))
        .await;
    bench.write("two", r#", "title": "again""#);
    bench.reloaded(|snapshot| title(snapshot, "two") == "again").await;
}

#[tokio::test]
async fn a_folder_that_is_replaced_by_another_is_followed() {
    let bench = Bench::new().with("one").open();
    let other = bench.root.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::write(other.join("two.yaml"), text("two", "")).expect("a file");
    fs::rename(bench.folder(), bench.root.path().join("old")).expect("it can be renamed");
    fs::rename(&other, bench.folder()).expect("it can be renamed");
    bench
        .reloaded(|snapshot| snapshot.providers.keys().map(AsRef::as_ref).eq(["two"]))
        .await;
    bench.write("three", "");
    bench
        .reloaded(|snapshot| snapshot.providers.contains_key("three"))
        .await;
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_made_anew_at_once_is_watched_though_it_may_look_the_same() {
    let bench = Bench::new().with("one").open();
    for round in ["1", "2", "3", "4"] {
        fs::remove_dir_all(bench.folder()).expect("it can be removed");
        fs::create_dir(bench.folder()).expect("it was removed");
        bench.write("one", &format!(r#", "title": "{round}""#));
        bench.reloaded(|snapshot| title(snapshot, "one") == round).await;
        let again = format!("{round} again");
        bench.write("one", &format!(r#", "title": "{again}""#));
        bench.reloaded(|snapshot| title(snapshot, "one") == again).await;
    }
}
