"""The same store on a real PostgreSQL server, and the server's faults."""

import logging
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from lekhai_helpers.ship import store_upgrade
from lekhai_helpers.ship.store import NewScript, ScriptStore, StoreError, UnknownScript
from lekhai_helpers.ship.store_schema import metadata
from tests.serving.postgres_server import PASSWORD, postgres

TABLE = "| Visual | Audio |\n|---|---|\n| ভোরের বারান্দা 100% | ভিও: নতুন দিন |"
SECRET = quote(PASSWORD)


def script(number: int = 0, **request) -> NewScript:
    asked = {"brand": "ঝিলমাটি", "product": "দেয়ালের রং", "message": f"বার্তা {number}", "industry": "রং (Paint)"}
    return NewScript(asked | request, TABLE, number % 2 == 0, ["2 row(s)"], "lekhai-q8_0.gguf@3f2a9c1d", 1.25)


@pytest.fixture(scope="module")
def server():
    with postgres() as running:
        yield running


@pytest.fixture
def url(server, request):
    name = f"d{abs(hash(request.node.name))}"
    return server.new_database(name)


@pytest.fixture
def store(url):
    with ScriptStore(url) as opened:
        yield opened


def test_what_is_added_comes_back_whole(store):
    stored = store.add(script(1, duration_seconds=30, other={"a": ["খ", None, 2.5]}))
    assert store.get(stored.id) == stored == store.search()[0]
    assert store.get("nonsense") is None and store.get("00000000-0000-4000-8000-000000000000") is None


def test_search_is_the_same_as_in_sqlite(store):
    store.add(NewScript({"brand": "অন্য"}, "| ছবি | 1000 axb |", True, [], "m", 1))
    wanted = store.add(script(message="The MORNING a_b ৩০ দিন", brand="ক\u09df\u09cb"))
    for query in ("morning", "100%", "a_b", "30", "৩০", "ক\u09af\u09bc\u09c7\u09be", "ভোরের বারান্দা", ""):
        assert wanted in store.search(query)
        assert query == "" or store.search(query) == [wanted]
    assert store.search(industry="রং (Paint)") == [wanted]
    assert store.search("'; DROP TABLE scripts --") == []


def test_what_postgresql_cannot_hold_is_marked_and_kept(store):
    stored = store.add(script(brand="ক\x00\ud800খ"))
    assert stored.request["brand"].startswith("ক�") and store.search("ক�") == [stored]


def test_pages_stay_the_same_while_scripts_come_in(store):
    old = [store.add(script(number)).id for number in range(12)][::-1]
    seen, before = [], None
    while page := store.search(limit=5, before=before):
        seen += [found.id for found in page]
        before = seen[-1]
        store.add(script(99))
    assert seen == old
    with pytest.raises(UnknownScript):
        store.search(before="00000000-0000-4000-8000-000000000000")


def test_threads_write_at_once(store):
    with ThreadPoolExecutor(12) as pool:
        stored = list(pool.map(lambda number: store.add(script(number)), range(48)))
    assert sorted(found.id for found in store.search(limit=100)) == sorted(found.id for found in stored)


def test_two_services_may_make_the_tables_at_once(url):
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: ScriptStore(url), range(4)))
    for store in stores:
        store.add(script())
    assert len(stores[0].search()) == 4
    for store in stores:
        store.close()


def test_the_steps_make_the_table_that_the_code_expects(store):
    with store._database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "scripts_version"})
        assert compare_metadata(context, metadata) == []


def test_an_upgrade_that_fails_changes_nothing(url, tmp_path, monkeypatch):
    import shutil

    with ScriptStore(url) as store:
        kept = store.add(script())
    shutil.copytree(store_upgrade.MIGRATIONS, tmp_path / "m", ignore=shutil.ignore_patterns("__pycache__"))
    step = "from alembic import op\nrevision, down_revision = '0002', '0001'\ndef upgrade():\n"
    step += "    op.execute('ALTER TABLE scripts ADD rating int')\n    op.execute('SELECT nonsense')\n"
    (tmp_path / "m" / "versions" / "0002_next.py").write_text(step)
    with monkeypatch.context() as planted:
        planted.setattr(store_upgrade, "MIGRATIONS", tmp_path / "m")
        with pytest.raises(StoreError, match="not those LekhAI made"):
            ScriptStore(url)
    with ScriptStore(url) as store:
        assert store.search() == [kept]


# --- faults


def test_a_server_killed_and_started_again_loses_nothing_and_is_found_again(server, store):
    """The store says so while the server is away, and needs no restart of its own."""
    kept = [store.add(script(number)) for number in range(5)][::-1]
    server.kill()
    with pytest.raises(StoreError, match=r"connection was lost.*start the database server"):
        store.add(script(6))
    with pytest.raises(StoreError, match="connection was lost"):
        store.search()
    server.start()
    assert store.search() == kept
    assert store.get(store.add(script(7)).id)


def test_a_server_killed_in_the_middle_of_writing_loses_no_script_that_was_acknowledged(server, store):
    acknowledged, refused, enough = [], [], threading.Event()

    def write() -> None:
        while not refused:
            try:
                acknowledged.append(store.add(script(message="ক" * 500)).id)
            except StoreError as error:
                refused.append(str(error))
            if len(acknowledged) > 30:
                enough.set()

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    server.kill()
    for writer in writers:
        writer.join(60)
    server.start()
    assert refused and all("connection was lost" in words for words in refused)
    assert all(store.get(id) is not None for id in acknowledged)


def test_a_connection_ended_by_the_server_is_replaced_without_a_word(server, store, url):
    """As after a restart at night: the first script of the morning must not fail."""
    store.add(script())
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lekhai'"
    server.connect().run(end)
    assert store.get(store.add(script(1)).id)


def test_an_answer_lost_after_the_commit_keeps_the_script_once(store, monkeypatch):
    """The commit arrives and its answer does not: the second try must not keep the script twice."""
    from sqlalchemy import event

    broken = []

    def lose_the_answer(connection):
        if not broken:
            connection.connection.commit()
            broken.append(True)
            raise ConnectionResetError("the answer is lost")

    event.listen(store._database.engine, "commit", lose_the_answer)
    stored = store.add(script())
    assert broken and store.search() == [stored]


def test_a_process_killed_while_it_adds_loses_no_script_that_was_acknowledged(url):
    program = (
        "import sys; from lekhai_helpers.ship.store import *\nstore = ScriptStore(sys.argv[1])\n"
        "while True: print(store.add(NewScript({}, 'ক', True, [], 'm', 1.0)).id, flush=True)"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True)
    ids = [writer.stdout.readline().strip() for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=60)
    with ScriptStore(url) as store:
        assert all(store.get(id) is not None for id in ids)


def test_a_full_disk_is_said(server, store):
    """A function that raises PostgreSQL's own code for a full disk stands in for one: it is reached on INSERT."""
    full = (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no space'"
        " USING ERRCODE = '53100'; END $$; CREATE TRIGGER full_disk BEFORE INSERT ON scripts"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    kept, owner = store.add(script()), server.connect(store._database.engine.url.database)
    owner.execute_simple(full)
    with pytest.raises(StoreError, match=r"disk is full.*free some space"):
        store.add(script(1))
    owner.execute_simple("DROP TRIGGER full_disk ON scripts")
    assert store.search() == [kept] and store.get(store.add(script(2)).id)
    owner.close()


def test_a_locked_table_is_waited_for_and_then_said(server, store):
    """The wait has an end, so that requests do not pile up behind it."""
    owner = server.connect(store._database.engine.url.database)
    owner.execute_simple("BEGIN; LOCK TABLE scripts")
    began = time.monotonic()
    with pytest.raises(StoreError, match="locked for more than"):
        store.search()
    assert time.monotonic() - began < 45
    owner.execute_simple("ROLLBACK")
    owner.close()
    assert store.search() == []


def test_a_database_that_cannot_hold_bengali_is_refused(server):
    address = server.new_database("ascii_only", "ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreError, match=r"SQL_ASCII.*cannot hold Bengali.*createdb"):
        ScriptStore(address)


def test_a_user_without_rights_is_told(server, url):
    ScriptStore(url).close()
    owner = server.connect()
    owner.execute_simple(f"DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    owner.close()
    with pytest.raises(StoreError, match="the user may not do that"):
        ScriptStore(url.replace("owner:", "reader:"))


def test_a_table_of_another_program_is_left_alone(server, url):
    owner = server.connect(url.rsplit("/", 1)[1])
    owner.execute_simple("CREATE TABLE scripts (name text)")
    owner.close()
    with pytest.raises(StoreError, match="made by another program"):
        ScriptStore(url)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace(SECRET, "wrong-one"), "refused the user or the password"),
        (lambda url: url.replace("/postgres", "/nowhere"), "no database of that name"),
        (lambda url: url.replace("owner:", "nobody-here:"), "refused the user or the password"),
        (lambda url: url.rsplit(":", 1)[0] + ":1/postgres", "connection was lost or could not be made"),
        (lambda url: url + "?sslmode=require", "speaks no TLS"),
        (lambda url: url + "?sslmode=verify-full&sslrootcert=/nowhere.pem", "sslrootcert= .* is not there"),
        (lambda url: url.replace("127.0.0.1", "no-such-host.invalid"), "connection was lost or could not be made"),
    ],
)
def test_no_error_and_no_log_line_holds_the_password(server, caplog, change, said):
    caplog.set_level(logging.DEBUG)
    address = change(server.url(password=SECRET))
    with pytest.raises(StoreError, match=said) as caught:
        ScriptStore(address)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert PASSWORD not in told and SECRET not in told and "wrong-one" not in told


def test_neither_password_nor_script_is_logged(server, url, caplog):
    caplog.set_level(logging.DEBUG)
    with ScriptStore(url) as store:
        stored = store.add(script(message="গোপন কথা"))
        assert store.search("গোপন") == [stored]
        assert PASSWORD not in caplog.text + repr(store._database) and "গোপন" not in caplog.text
