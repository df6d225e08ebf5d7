//! What a ban does to jobs that are there.

use super::*;

const BANNED: &str = "davs://src.rig.test";

impl Rig {
    /// Puts the files of all jobs in a state, as if their tokens had come.
    async fn release(&self) {
        let sql = "UPDATE t_file SET file_state = file_state_initial WHERE file_state = 'TOKEN_PREP'";
        self.execute(sql, &[]).await;
    }

    async fn states(&self, id: &str) -> (Value, Vec<Value>) {
        let job = self.job(id).await;
        let files = job["files"].as_array().unwrap().iter().map(|file| file["file_state"].clone());
        (job["job_state"].clone(), files.collect())
    }

    async fn ban(&self, status: &str, allow: bool) -> Value {
        let body = json!({"storage": BANNED, "status": status, "allow_submit": allow});
        let (status, met) = self.json(Method::POST, "/ban/se", Some(body)).await;
        assert_eq!(status, 200, "{met}");
        met
    }
}

#[tokio::test]
async fn what_waits_for_banned_storage_is_held_until_the_ban_ends() {
    let rig = Rig::start().await;
    rig.fts.set_scheduler(false);
    let token = rig.token("https://src.rig.test", "storage.read:/data");
    let id = rig.submit(super::job(&json!({}), &json!({}), &token)).await;
    rig.release().await;
    assert_eq!(rig.ban("wait", true).await, json!([id]));
    assert_eq!(rig.states(&id).await, (json!("SUBMITTED"), vec![json!("ON_HOLD")]));
    let held = rig.submit(super::job(&json!({}), &json!({}), &token)).await;
    let (status, _) = rig.json(Method::DELETE, &format!("/ban/se?storage={BANNED}"), None).await;
    assert_eq!(status, 204);
    assert_eq!(rig.states(&id).await.1, [json!("SUBMITTED")]);
    // Hidden behind TOKEN_PREP, nobody finds it: it will be held for good.
    assert_eq!(rig.states(&held).await.1, [json!("TOKEN_PREP")]);
    let file = &rig.job(&held).await["files"][0]["file_state_initial"];
    assert_eq!(file, "ON_HOLD");
}

#[tokio::test]
async fn a_cancelling_ban_leaves_the_job_to_another_replica() {
    let rig = Rig::start().await;
    rig.fts.set_scheduler(false);
    let token = rig.token("https://src.rig.test", "storage.read:/data");
    let two = json!({
        "sources": [SOURCE, "davs://other.rig.test/data/f"], "source_tokens": [token, token],
        "selection_strategy": "orderly",
    });
    let several = rig.submit(super::job(&two, &json!({}), &token)).await;
    let one = rig.submit(super::job(&json!({}), &json!({}), &token)).await;
    rig.release().await;
    let met = rig.ban("cancel", false).await;
    assert_eq!(met.as_array().unwrap().len(), 2);
    let (job, files) = rig.states(&several).await;
    assert_eq!((job, files), (json!("SUBMITTED"), vec![json!("CANCELED"), json!("SUBMITTED")]));
    assert_eq!(rig.states(&one).await, (json!("CANCELED"), vec![json!("CANCELED")]));
    assert_eq!(rig.job(&one).await["files"][0]["reason"], "Storage banned");
}

#[tokio::test]
async fn a_banned_user_is_out_and_nobody_bans_oneself() {
    let rig = Rig::start().await;
    let me = json!({"user_dn": "rucio-client"});
    let (status, answer) = rig.json(Method::POST, "/ban/dn", Some(me)).await;
    assert_eq!((status, &answer["message"]), (409, &json!("The user tried to ban (her|his)self")));
    let (status, _) =
        rig.json(Method::POST, "/ban/dn", Some(json!({"user_dn": "minted", "message": "x"}))).await;
    assert_eq!(status, 200);
    let other = rig.token(&rig.fts.url(), "fts");
    let (status, page) = rig.call(Method::GET, "/whoami", Some(&other), None).await;
    assert!(status == 403 && page.contains("The user has been banned"), "{page}");
    let (_, list) = rig.json(Method::GET, "/ban/dn", None).await;
    assert_eq!((&list[0]["dn"], &list[0]["admin_dn"]), (&json!("minted"), &json!("rucio-client")));
    rig.json(Method::DELETE, "/ban/dn?user_dn=minted", None).await;
    assert_eq!(rig.call(Method::GET, "/whoami", Some(&other), None).await.0, 200);
}
