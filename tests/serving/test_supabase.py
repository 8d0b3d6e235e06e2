"""``supabase.sql`` on a real PostgreSQL server: two people who must not see each other's scripts.

The schema `auth`, the roles and their rights stand in for what Supabase's own database has, as its documentation
describes them: `auth.uid()` reads the claims of the signed-in person, and every new table is open to everybody. The
policies are PostgreSQL's own and run for real; Supabase's web server in front of it is not here.
"""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from pg8000.exceptions import DatabaseError

from lekhai_helpers.ship import store as store_module
from lekhai_helpers.ship.store import NewScript, ScriptStore
from lekhai_helpers.ship.store_schema import search_form
from tests.serving.postgres_server import postgres

SQL = (Path(store_module.__file__).with_name("supabase.sql")).read_text(encoding="utf-8")
RAHIMA, KARIM = str(uuid4()), str(uuid4())
STAND_IN = f"""
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
INSERT INTO auth.users VALUES ('{RAHIMA}'), ('{KARIM}');
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
GRANT USAGE ON SCHEMA auth, public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
"""
ROLES = "CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; CREATE ROLE service_role NOLOGIN BYPASSRLS"
TABLE = "| Visual | Audio |\n|---|---|\n| ভোর | ভিও: কথা |"


@pytest.fixture(scope="module")
def server():
    with postgres() as running:
        owner = running.connect()
        owner.execute_simple(ROLES)
        owner.close()
        yield running


class Supabase:
    """One database; `as_person(id, sql)` runs one statement the way Supabase's web server does."""

    def __init__(self, server, name: str) -> None:
        self.url = server.new_database(name)
        self.owner = server.connect(name)
        self.owner.execute_simple(STAND_IN)

    def as_role(self, role: str, claims: dict, sql: str, **values):
        self.owner.execute_simple("BEGIN")
        try:
            self.owner.execute_simple(f"SET LOCAL ROLE {role}")
            self.owner.run("SELECT set_config('request.jwt.claims', :claims, true)", claims=json.dumps(claims))
            rows = self.owner.run(sql, **values)
            count = self.owner.row_count
            self.owner.execute_simple("COMMIT")
        except DatabaseError:
            self.owner.execute_simple("ROLLBACK")
            raise
        return rows if rows is not None else count

    def as_person(self, person: str, sql: str, **values):
        return self.as_role("authenticated", {"sub": person, "role": "authenticated"}, sql, **values)

    def keep(self, person: str, brand: str) -> str:
        """Insert a script as a page does, with nothing but what it knows."""
        rows = self.as_person(
            person,
            "INSERT INTO scripts (request, markdown, valid, model, seconds)"
            " VALUES (CAST(:request AS json), :markdown, true, 'm', 1.5) RETURNING id",
            request=json.dumps({"brand": brand, "industry": "চা (Tea)", "message": "৩০  দিন"}),
            markdown=TABLE,
        )
        return str(rows[0][0])


@pytest.fixture
def supabase(server, request):
    database = Supabase(server, f"s{abs(hash(request.node.name))}")
    database.owner.execute_simple(SQL)
    yield database
    database.owner.close()


@pytest.fixture
def scripts(supabase):
    """One script of each person, by their ids."""
    return {person: supabase.keep(person, brand) for person, brand in ((RAHIMA, "রহিমার"), (KARIM, "করিমের"))}


def code(caught) -> str:
    return caught.value.args[0]["C"]


def test_each_sees_only_their_own(supabase, scripts):
    for person, id in scripts.items():
        found = supabase.as_person(person, "SELECT id, user_id FROM scripts")
        assert [(str(row[0]), str(row[1])) for row in found] == [(id, person)]
    assert supabase.owner.run("SELECT count(*) FROM scripts") == [[2]]


def test_the_other_ones_script_cannot_be_changed_or_deleted(supabase, scripts):
    for statement in ("UPDATE scripts SET markdown = 'x' WHERE id = :id", "DELETE FROM scripts WHERE id = :id"):
        assert supabase.as_person(KARIM, statement, id=scripts[RAHIMA]) == 0
    assert supabase.owner.run("SELECT markdown FROM scripts WHERE id = :id", id=scripts[RAHIMA]) == [[TABLE]]


def test_ones_own_can_be_changed_and_deleted(supabase, scripts):
    change, delete = "UPDATE scripts SET markdown = 'নতুন X' WHERE id = :id", "DELETE FROM scripts WHERE id = :id"
    assert supabase.as_person(KARIM, change, id=scripts[KARIM]) == 1
    text = supabase.as_person(KARIM, "SELECT search_text FROM scripts")[0][0]
    assert "নতুন x" in text and "করিমের" in text
    assert supabase.as_person(KARIM, delete, id=scripts[KARIM]) == 1


INSERT = "INSERT INTO scripts (id, user_id, request, markdown, valid, model, seconds) "


def test_nobody_can_keep_a_script_for_another_or_for_nobody(supabase, scripts):
    for owner in (f"'{RAHIMA}'", "NULL"):
        with pytest.raises(DatabaseError) as caught:
            supabase.as_person(KARIM, f"{INSERT} VALUES (:id, {owner}, '{{}}', 'x', true, 'm', 1)", id=str(uuid4()))
        assert code(caught) == "42501"


@pytest.mark.parametrize(
    "change",
    [
        "request = '[1]'",
        "request = 'null'",
        "problems = '{}'",
        "problems = '[1]'",
        "problems = '[[]]'",
        "created_at = 'infinity'",
        "created_at = '20000-01-01'",
        "created_at = '0044-03-15 BC'",
    ],
)
def test_nobody_can_keep_what_no_page_of_a_history_could_show(supabase, scripts, change):
    """A row that cannot be read was an error for every page of the history, while the service read everybody's."""
    with pytest.raises(DatabaseError) as caught:
        supabase.as_person(KARIM, f"UPDATE scripts SET {change} WHERE id = :id", id=scripts[KARIM])
    assert code(caught) == "23514"
    assert len(supabase.owner.run("SELECT id FROM scripts")) == 2


def test_a_script_cannot_be_handed_to_another(supabase, scripts):
    with pytest.raises(DatabaseError) as caught:
        supabase.as_person(KARIM, "UPDATE scripts SET user_id = :other", other=RAHIMA)
    assert code(caught) == "42501"


def test_an_upsert_does_not_reach_the_other_ones_script(supabase, scripts):
    """The id is taken, so the statement turns into an UPDATE of a row that is not one's own."""
    upsert = (
        f"{INSERT} VALUES (:id, '{KARIM}', '{{}}', 'x', true, 'm', 1) ON CONFLICT (id) DO UPDATE SET markdown = 'x'"
    )
    with pytest.raises(DatabaseError) as caught:
        supabase.as_person(KARIM, upsert, id=scripts[RAHIMA])
    assert code(caught) == "42501"


def test_a_subquery_a_count_and_a_join_show_nothing_either(supabase, scripts):
    for query in (
        "SELECT count(*) FROM scripts WHERE search_text LIKE '%রহিমার%'",
        "SELECT count(*) FROM scripts a JOIN scripts b ON a.user_id <> b.user_id",
    ):
        assert supabase.as_person(KARIM, query) == [[0]]


@pytest.mark.parametrize("statement", ["TRUNCATE scripts", "SELECT * FROM scripts_version", "DROP TABLE scripts"])
def test_what_policies_do_not_hold_back_is_not_granted(supabase, scripts, statement):
    """TRUNCATE asks no policy, and Supabase grants it to everybody."""
    with pytest.raises(DatabaseError) as caught:
        supabase.as_person(KARIM, statement)
    assert code(caught) == "42501"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM scripts",
        "DELETE FROM scripts",
        "UPDATE scripts SET markdown = ''",
        "INSERT INTO scripts (request, markdown, valid, model, seconds) VALUES ('{}', '', true, '', 1)",
        "SELECT * FROM scripts_version",
    ],
)
def test_whoever_is_not_signed_in_sees_and_does_nothing(supabase, scripts, statement):
    with pytest.raises(DatabaseError) as caught:
        supabase.as_role("anon", {"role": "anon"}, statement)
    assert code(caught) == "42501"


def test_signed_in_without_a_name_means_nobody(supabase, scripts):
    """A token without `sub` must not match the scripts of the service, which have no user."""
    with ScriptStore(supabase.url) as store:
        store.add(NewScript({}, TABLE, True, [], "m", 1))
    assert supabase.as_role("authenticated", {}, "SELECT count(*) FROM scripts") == [[0]]


def test_scripts_of_the_service_belong_to_nobody(supabase, scripts):
    with ScriptStore(supabase.url) as store:
        kept = store.add(NewScript({"brand": "সার্ভিস", "industry": "চা (Tea)"}, TABLE, True, [], "m", 1))
        assert store.search() == store.search("সার্ভিস") == [kept]
        assert store.search("30 করিমের") == [] and store.get(scripts[KARIM]) is None
    assert len(supabase.as_person(RAHIMA, "SELECT id FROM scripts")) == 1


def test_an_account_that_goes_takes_its_scripts_along(supabase, scripts):
    supabase.owner.run("DELETE FROM auth.users WHERE id = :id", id=KARIM)
    assert supabase.owner.run("SELECT id FROM scripts") and len(supabase.owner.run("SELECT id FROM scripts")) == 1


# --- the same table as the store's

SHAPE = """
SELECT column_name, data_type, is_nullable FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = :name AND column_name <> 'user_id' ORDER BY ordinal_position
"""


def test_the_columns_are_those_of_the_store(server, supabase):
    ScriptStore(server.new_database("plain")).close()
    plain = server.connect("plain")
    for table in ("scripts", "scripts_version"):
        assert supabase.owner.run(SHAPE, name=table) == plain.run(SHAPE, name=table) != []
    assert supabase.owner.run("TABLE scripts_version") == plain.run("TABLE scripts_version")
    plain.close()


def test_it_may_come_after_the_store_and_twice(server):
    database = Supabase(server, "store_first")
    with ScriptStore(database.url) as store:
        before = store.add(NewScript({"brand": "আগের"}, TABLE, True, [], "m", 1))
        # In the SQL editor somebody is signed in: what was there must not become theirs.
        claims = json.dumps({"sub": RAHIMA})
        database.owner.execute_simple(f"SET request.jwt.claims = '{claims}'")
        database.owner.execute_simple(SQL)
        database.owner.execute_simple(SQL)
        database.owner.execute_simple("RESET request.jwt.claims")
        mine = database.keep(RAHIMA, "রহিমার")
        assert [str(row[0]) for row in database.as_person(RAHIMA, "SELECT id FROM scripts")] == [mine]
        assert store.get(before.id) == before
    database.owner.close()


@pytest.mark.parametrize("text", ["Some  ABC\n৩০ দিন", "ক\u09df\u09cb", "র\u200d্যাব"])
def test_a_page_and_the_store_search_in_the_same_form(supabase, text):
    supabase.keep(RAHIMA, text)
    found = supabase.owner.run("SELECT search_text FROM scripts")[0][0]
    assert found == search_form(f"{text} ৩০ দিন {TABLE}")
