//! etcd with users, and behind TLS.

use std::path::Path;
use std::process::Command;

use etcd_client::{Client, ConnectOptions, Permission, PermissionType};
use waypost::registry::etcd::{EtcdOptions, connect};
use waypost::registry::{Source, Step};
use waypost_test_support::eventually_async;

use crate::server::Server;
use crate::tools::{DEADLINE, TTL, client, follows, options, own, register, with_shared};

/// Adds root, and a user that may only touch `/s/`, and turns authentication on.
async fn with_users(server: &Server) -> Client {
    let mut etcd = client(server).await;
    etcd.role_add("root").await.unwrap();
    etcd.user_add("root", "secret", None).await.unwrap();
    etcd.user_grant_role("root", "root").await.unwrap();
    etcd.role_add("agent").await.unwrap();
    let permission = Permission::new(PermissionType::Readwrite, "/s/").with_prefix();
    etcd.role_grant_permission("agent", permission).await.unwrap();
    etcd.user_add("agent", "word", None).await.unwrap();
    etcd.user_grant_role("agent", "agent").await.unwrap();
    etcd.auth_enable().await.unwrap();
    let root = ConnectOptions::new().with_user("root", "secret");
    Client::connect([server.endpoint()], Some(root)).await.unwrap()
}

fn user(server: &Server, password: &str) -> EtcdOptions {
    EtcdOptions { username: Some("agent".into()), password: Some(password.into()), ..options(server) }
}

#[tokio::test]
async fn a_user_signs_in_and_stays_signed_in() {
    let mut server = Server::start_with(&["--auth-token-ttl", "2"]).await;
    with_users(&server).await;
    let agent = connect(user(&server, "word")).unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    let desired = with_shared(own(&[("/s/a", "1")]), "/s/port", "80");
    register(&*agent, &desired, Source::Cached).await;
    follows(&mut watched, &[("/s/a", "1"), ("/s/port", "80")]).await;
    // etcd forgets all tokens when it restarts, and the watch cannot ask for a new one by itself.
    server.down();
    server.up().await;
    let desired = with_shared(own(&[("/s/a", "2")]), "/s/port", "80");
    eventually_async(DEADLINE, "registered again", async || {
        let steps = waypost::registry::plan(&agent.owned_entries(Source::Cached).await?, &desired);
        Ok(agent.apply(&steps).await?)
    })
    .await;
    follows(&mut watched, &[("/s/a", "2"), ("/s/port", "80")]).await;
}

#[tokio::test]
async fn a_follower_alone_renews_its_token() {
    let mut server = Server::start().await;
    let mut etcd = with_users(&server).await;
    let agent = connect(user(&server, "word")).unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    follows(&mut watched, &[]).await;
    server.down();
    server.up().await;
    etcd.refresh_token().await.unwrap();
    etcd.put("/s/a", "1", None).await.unwrap();
    follows(&mut watched, &[("/s/a", "1")]).await;
}

#[tokio::test]
async fn a_change_of_users_needs_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    openssl(directory.path(), "genrsa -out key.pem 2048");
    openssl(directory.path(), "rsa -in key.pem -pubout -out public.pem");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    // Such tokens say which state of the users they were made for.
    let token = format!("jwt,pub-key={},priv-key={},sign-method=RS256,ttl=10m", path("public.pem"), path("key.pem"));
    let server = Server::start_with(&["--auth-token", &token]).await;
    let mut etcd = with_users(&server).await;
    let agent = connect(user(&server, "word")).unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    register(&*agent, &own(&[("/s/a", "1")]), Source::Cached).await;
    follows(&mut watched, &[("/s/a", "1")]).await;
    etcd.user_add("another", "word", None).await.unwrap();
    register(&*agent, &own(&[("/s/a", "2")]), Source::Fresh).await;
    follows(&mut watched, &[("/s/a", "2")]).await;
}

#[tokio::test]
async fn what_is_not_permitted_says_what_to_do() {
    let server = Server::start().await;
    with_users(&server).await;
    let wrong = connect(user(&server, "wrong")).unwrap().owned_entries(Source::Cached).await.unwrap_err();
    assert!(wrong.is_permanent() && wrong.to_string().contains("password-file"), "{wrong}");

    let agent = connect(user(&server, "word")).unwrap();
    agent.owned_entries(Source::Cached).await.unwrap();
    let elsewhere = Step::Put { key: "/elsewhere".into(), value: "1".into() };
    let allowed = Step::Put { key: "/s/a".into(), value: "1".into() };
    let error = agent.apply(&[elsewhere, allowed]).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("/elsewhere"), "{error}");
    assert!(error.to_string().contains("grant"), "{error}");
    assert_eq!(agent.owned_entries(Source::Cached).await.unwrap().len(), 1, "what is permitted is done");

    let nobody = connect(options(&server)).unwrap();
    // etcd 3.5.30 gives nobody a lease, an older one lets nobody write.
    let error = match nobody.owned_entries(Source::Cached).await {
        Ok(_) => nobody.apply(&[Step::Put { key: "/s/b".into(), value: "1".into() }]).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.is_permanent() && error.to_string().contains("registry.username"), "{error}");
}

/// Runs openssl in a directory.
fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate authority, and a certificate of `127.0.0.1` for both ends.
pub(crate) fn certificates(directory: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(directory, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    openssl(directory, &format!("req {key} -keyout key.pem -out request -subj /CN=etcd"));
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        directory,
        "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
    );
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let arguments = [
        "--cert-file".into(),
        path("cert.pem"),
        "--key-file".into(),
        path("key.pem"),
        "--trusted-ca-file".into(),
        path("ca.pem"),
        "--client-cert-auth".into(),
    ];
    let server = Server::start_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let read = |name: &str| Some(std::fs::read(path(name)).unwrap());
    let good = EtcdOptions {
        ca_pem: read("ca.pem"),
        cert_pem: read("cert.pem"),
        key_pem: read("key.pem"),
        ..options(&server)
    };
    let agent = connect(good.clone()).unwrap();
    let mut watched = agent.watch(vec!["/s/".into()]);
    eventually_async(DEADLINE, "etcd has elected itself", async || Ok(agent.owned_entries(Source::Cached).await?))
        .await;
    register(&*agent, &own(&[("/s/a", "1")]), Source::Cached).await;
    follows(&mut watched, &[("/s/a", "1")]).await;

    // Elsewhere, because etcd reads its own certificate anew for every connection.
    let strange = tempfile::tempdir().unwrap();
    certificates(strange.path());
    let ca_pem = Some(std::fs::read(strange.path().join("ca.pem")).unwrap());
    let stranger = EtcdOptions { ca_pem, ttl: TTL, ..good };
    let error = connect(stranger).unwrap().owned_entries(Source::Cached).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("ca-file"), "{error}");
}
