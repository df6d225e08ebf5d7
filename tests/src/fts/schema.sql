-- The tables of FTS's database (schema 10.0.1) that submission, token hand-over, scheduling and polling touch, with FTS's
-- own names. Enumerations and lengths are CHECKs, so that a value MariaDB refuses is refused here too; a timestamp is
-- text 'YYYY-MM-DD HH:MM:SS' in UTC.

CREATE TABLE IF NOT EXISTS t_token_provider (
    name TEXT NOT NULL CHECK (length(name) <= 255),
    issuer TEXT NOT NULL PRIMARY KEY CHECK (length(issuer) <= 1024),
    client_id TEXT NOT NULL CHECK (length(client_id) <= 255),
    client_secret TEXT NOT NULL CHECK (length(client_secret) <= 255),
    required_submission_scope TEXT CHECK (length(required_submission_scope) <= 255),
    vo_mapping TEXT CHECK (length(vo_mapping) <= 100)
);

-- The last two columns are gone from 10.0.1, but REST 3.13.4 still writes them: the observed rig kept them, nullable.
CREATE TABLE IF NOT EXISTS t_token (
    token_id TEXT NOT NULL PRIMARY KEY CHECK (length(token_id) <= 16),
    access_token TEXT NOT NULL,
    access_token_expiry TEXT NOT NULL,
    refresh_token TEXT,
    issuer TEXT NOT NULL CHECK (length(issuer) <= 1024),
    scope TEXT NOT NULL CHECK (length(scope) <= 1024),
    audience TEXT NOT NULL CHECK (length(audience) <= 1024),
    exchange_retry_timestamp TEXT,
    exchange_retry_delay_m INTEGER DEFAULT 0,
    exchange_attempts INTEGER DEFAULT 0,
    exchange_message TEXT CHECK (length(exchange_message) <= 2048),
    retired INTEGER NOT NULL DEFAULT 0,
    marked_for_refresh INTEGER DEFAULT 0,
    refresh_message TEXT CHECK (length(refresh_message) <= 2048),
    refresh_timestamp TEXT,
    unmanaged INTEGER DEFAULT 0,
    access_token_not_before TEXT,
    access_token_refresh_after TEXT,
    CONSTRAINT t_token_fk_token_issuer FOREIGN KEY (issuer) REFERENCES t_token_provider (issuer) ON DELETE RESTRICT
);
CREATE INDEX IF NOT EXISTS t_token_fk_token_issuer ON t_token (issuer);
CREATE INDEX IF NOT EXISTS t_token_idx_retired ON t_token (retired);

CREATE TABLE IF NOT EXISTS t_job (
    job_id TEXT NOT NULL PRIMARY KEY CHECK (length(job_id) <= 36),
    job_state TEXT NOT NULL CHECK (job_state IN ('STAGING', 'ARCHIVING', 'QOS_TRANSITION', 'QOS_REQUEST_SUBMITTED', 'SUBMITTED', 'READY', 'ACTIVE', 'FINISHED', 'FAILED', 'FINISHEDDIRTY', 'CANCELED', 'DELETE')),
    job_type TEXT CHECK (length(job_type) <= 1),
    cancel_job TEXT CHECK (length(cancel_job) <= 1),
    source_se TEXT CHECK (length(source_se) <= 255),
    dest_se TEXT CHECK (length(dest_se) <= 255),
    user_dn TEXT CHECK (length(user_dn) <= 1024),
    cred_id TEXT CHECK (length(cred_id) <= 16),
    vo_name TEXT CHECK (length(vo_name) <= 50),
    reason TEXT CHECK (length(reason) <= 2048),
    submit_time TEXT,
    priority INTEGER DEFAULT 3,
    submit_host TEXT CHECK (length(submit_host) <= 255),
    max_time_in_queue INTEGER,
    space_token TEXT CHECK (length(space_token) <= 255),
    internal_job_params TEXT CHECK (length(internal_job_params) <= 255),
    overwrite_flag TEXT CHECK (length(overwrite_flag) <= 1),
    job_finished TEXT,
    source_space_token TEXT CHECK (length(source_space_token) <= 255),
    copy_pin_lifetime INTEGER,
    checksum_method TEXT CHECK (length(checksum_method) <= 1),
    bring_online INTEGER,
    retry INTEGER DEFAULT 0,
    retry_delay INTEGER DEFAULT 0,
    target_qos TEXT CHECK (length(target_qos) <= 255),
    job_metadata TEXT,
    archive_timeout INTEGER,
    dst_file_report TEXT CHECK (length(dst_file_report) <= 1),
    os_project_id TEXT CHECK (length(os_project_id) <= 512)
);
CREATE INDEX IF NOT EXISTS t_job_idx_jobfinished ON t_job (job_finished);
CREATE INDEX IF NOT EXISTS t_job_idx_jobtype ON t_job (job_type);
CREATE INDEX IF NOT EXISTS t_job_idx_link ON t_job (source_se, dest_se);
CREATE INDEX IF NOT EXISTS t_job_idx_submission ON t_job (submit_time, submit_host);
CREATE INDEX IF NOT EXISTS t_job_idx_vo_name ON t_job (vo_name);

CREATE TABLE IF NOT EXISTS t_file (
    log_file_debug INTEGER,
    file_id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_index INTEGER,
    job_id TEXT NOT NULL CHECK (length(job_id) <= 36),
    file_state TEXT NOT NULL CHECK (file_state IN ('STAGING', 'ARCHIVING', 'QOS_TRANSITION', 'QOS_REQUEST_SUBMITTED', 'STARTED', 'SUBMITTED', 'READY', 'ACTIVE', 'FINISHED', 'FAILED', 'CANCELED', 'NOT_USED', 'ON_HOLD', 'ON_HOLD_STAGING', 'FORCE_START', 'TOKEN_PREP')),
    transfer_host TEXT CHECK (length(transfer_host) <= 255),
    source_surl TEXT CHECK (length(source_surl) <= 1100),
    dest_surl TEXT CHECK (length(dest_surl) <= 1100),
    source_se TEXT CHECK (length(source_se) <= 255),
    dest_se TEXT CHECK (length(dest_se) <= 255),
    staging_host TEXT CHECK (length(staging_host) <= 1024),
    reason TEXT CHECK (length(reason) <= 2048),
    current_failures INTEGER,
    filesize INTEGER,
    checksum TEXT CHECK (length(checksum) <= 100),
    finish_time TEXT,
    start_time TEXT,
    internal_file_params TEXT CHECK (length(internal_file_params) <= 255),
    pid INTEGER,
    tx_duration REAL,
    throughput REAL,
    retry INTEGER DEFAULT 0,
    user_filesize INTEGER,
    file_metadata TEXT,
    selection_strategy TEXT CHECK (length(selection_strategy) <= 32),
    staging_start TEXT,
    staging_finished TEXT,
    bringonline_token TEXT CHECK (length(bringonline_token) <= 255),
    retry_timestamp TEXT,
    log_file TEXT CHECK (length(log_file) <= 2048),
    t_log_file_debug INTEGER,
    hashed_id INTEGER DEFAULT 0,
    vo_name TEXT CHECK (length(vo_name) <= 50),
    activity TEXT DEFAULT 'default' CHECK (length(activity) <= 255),
    transferred INTEGER DEFAULT 0,
    priority INTEGER DEFAULT 3,
    dest_surl_uuid TEXT CHECK (length(dest_surl_uuid) <= 36),
    archive_start_time TEXT,
    archive_finish_time TEXT,
    staging_metadata TEXT,
    archive_metadata TEXT,
    scitag INTEGER,
    src_token_id TEXT CHECK (length(src_token_id) <= 16),
    dst_token_id TEXT CHECK (length(dst_token_id) <= 16),
    file_state_initial TEXT CHECK (length(file_state_initial) <= 32),
    CONSTRAINT t_file_dst_token_id FOREIGN KEY (dst_token_id) REFERENCES t_token (token_id) ON DELETE RESTRICT,
    CONSTRAINT t_file_job_id FOREIGN KEY (job_id) REFERENCES t_job (job_id) ON DELETE RESTRICT,
    CONSTRAINT t_file_src_token_id FOREIGN KEY (src_token_id) REFERENCES t_token (token_id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX IF NOT EXISTS t_file_dest_surl_uuid ON t_file (dest_surl_uuid);
CREATE INDEX IF NOT EXISTS t_file_dst_token_id ON t_file (dst_token_id);
CREATE INDEX IF NOT EXISTS t_file_idx_activity ON t_file (vo_name, activity);
CREATE INDEX IF NOT EXISTS t_file_idx_finish_time ON t_file (finish_time);
CREATE INDEX IF NOT EXISTS t_file_idx_host ON t_file (transfer_host);
CREATE INDEX IF NOT EXISTS t_file_idx_job_id ON t_file (job_id);
CREATE INDEX IF NOT EXISTS t_file_idx_link_state_finish_time ON t_file (source_se, dest_se, file_state, finish_time);
CREATE INDEX IF NOT EXISTS t_file_idx_link_state_vo ON t_file (source_se, dest_se, file_state, vo_name);
CREATE INDEX IF NOT EXISTS t_file_idx_staging ON t_file (file_state, vo_name, source_se);
CREATE INDEX IF NOT EXISTS t_file_idx_staging_token ON t_file (file_state, vo_name, source_se, bringonline_token);
CREATE INDEX IF NOT EXISTS t_file_idx_state ON t_file (file_state);
CREATE INDEX IF NOT EXISTS t_file_idx_state_host ON t_file (file_state, transfer_host);
CREATE INDEX IF NOT EXISTS t_file_src_token_id ON t_file (src_token_id);

CREATE TABLE IF NOT EXISTS t_file_retry_errors (
    file_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    datetime TEXT,
    reason TEXT CHECK (length(reason) <= 2048),
    transfer_host TEXT CHECK (length(transfer_host) <= 255),
    log_file TEXT CHECK (length(log_file) <= 2048),
    PRIMARY KEY (file_id, attempt),
    CONSTRAINT t_file_retry_errors_t_file_retry_errors_ibfk_1 FOREIGN KEY (file_id) REFERENCES t_file (file_id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS t_file_retry_errors_idx_datetime ON t_file_retry_errors (datetime);

CREATE TABLE IF NOT EXISTS t_hosts (
    hostname TEXT NOT NULL CHECK (length(hostname) <= 64),
    beat TEXT,
    drain INTEGER DEFAULT 0,
    service_name TEXT NOT NULL CHECK (length(service_name) <= 64),
    PRIMARY KEY (hostname, service_name)
);

CREATE TABLE IF NOT EXISTS t_gridmap (
    dn TEXT NOT NULL PRIMARY KEY CHECK (length(dn) <= 255),
    vo TEXT NOT NULL CHECK (length(vo) <= 100)
);

-- Delegated X.509 credentials, with the columns that submission looks at.
CREATE TABLE IF NOT EXISTS t_credential (
    dlg_id TEXT NOT NULL,
    dn TEXT NOT NULL,
    proxy TEXT,
    voms_attrs TEXT,
    termination_time TEXT NOT NULL,
    PRIMARY KEY (dlg_id, dn)
);

CREATE TABLE IF NOT EXISTS t_server_config (
    retry INTEGER DEFAULT 0,
    max_time_queue INTEGER DEFAULT 0,
    sec_per_mb INTEGER DEFAULT 0,
    global_timeout INTEGER DEFAULT 0,
    vo_name TEXT CHECK (length(vo_name) <= 100),
    no_streaming TEXT CHECK (length(no_streaming) <= 3),
    show_user_dn TEXT CHECK (length(show_user_dn) <= 3)
);

CREATE TABLE IF NOT EXISTS t_schema_vers (
    major INTEGER NOT NULL,
    minor INTEGER NOT NULL,
    patch INTEGER NOT NULL,
    message TEXT,
    PRIMARY KEY (major, minor, patch)
);

-- Banned storage elements and users: REST's own tables, with the columns that /ban/se shows.
CREATE TABLE IF NOT EXISTS t_bad_ses (
    se TEXT NOT NULL,
    message TEXT,
    addition_time TEXT,
    admin_dn TEXT,
    vo TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('CANCEL', 'WAIT', 'WAIT_AS')),
    PRIMARY KEY (se, vo)
);
CREATE TABLE IF NOT EXISTS t_bad_dns (
    dn TEXT NOT NULL PRIMARY KEY,
    message TEXT,
    addition_time TEXT,
    admin_dn TEXT,
    status TEXT NOT NULL CHECK (status IN ('CANCEL', 'WAIT'))
);

INSERT OR IGNORE INTO t_schema_vers (major, minor, patch, message) VALUES (10, 0, 1, 'grid in a box');
