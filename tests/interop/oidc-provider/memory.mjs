// Where oidc-provider keeps its records: in memory, and past their end, so that it is the library that says what has expired.
const records = new Map();

export class Memory {
  #kind;

  constructor(kind) {
    this.#kind = kind;
  }

  async upsert(id, payload) {
    records.set(`${this.#kind} ${id}`, payload);
  }

  async find(id) {
    return records.get(`${this.#kind} ${id}`);
  }

  async findByUid(uid) {
    return this.#first((record) => record.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#first((record) => record.userCode === userCode);
  }

  async consume(id) {
    (await this.find(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    records.delete(`${this.#kind} ${id}`);
  }

  async revokeByGrantId(grantId) {
    for (const [key, record] of records) {
      if (record.grantId === grantId) records.delete(key);
    }
  }

  #first(fits) {
    for (const [key, record] of records) {
      if (key.startsWith(`${this.#kind} `) && fits(record)) return record;
    }
    return undefined;
  }
}
