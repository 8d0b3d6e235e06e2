-- The table of scripts for Supabase, where each person who signs in there sees and changes only their own.
--
-- NOT so through `lekhai serve`: everyone who asks through it shares one history, whatever stands below. Whoever may
-- write there finds and reads what all others wrote there. To keep people apart, let them sign in through Supabase.
--
-- Run it once in Supabase's SQL editor (or with psql as the owner); running it again changes nothing. It does not
-- matter whether `lekhai serve` made the table before: what is there stays.
--
-- Two kinds of users share the table. A page that signs people in through Supabase comes as the role `authenticated`,
-- and the policies below hold for it. `lekhai serve` with LEKHAI_DATABASE_URL comes as the table's owner, whom
-- policies do not bind: its scripts have no user_id, and nobody but the owner sees them. It reads and searches those
-- alone, and none that belongs to a person.

begin;

create table if not exists public.scripts (
    id uuid primary key,
    created_at timestamptz not null,
    industry text not null,
    request json not null,
    markdown text not null,
    valid boolean not null,
    problems json not null,
    model text not null,
    seconds double precision not null,
    search_text text not null
);
create index if not exists scripts_newest_first on public.scripts (created_at, id);

-- The column first, its default second: rows that are there belong to nobody, not to whoever runs this.
alter table public.scripts add column if not exists user_id uuid references auth.users (id) on delete cascade;
alter table public.scripts
    alter column id set default gen_random_uuid(),
    alter column created_at set default now(),
    alter column industry set default '',
    alter column problems set default '[]',
    alter column search_text set default '',
    alter column user_id set default auth.uid();

-- A person may write anything into their own rows. One that no program can read (a list for a request, the year 294276)
-- would close the whole history it stands in.
alter table public.scripts drop constraint if exists scripts_readable;
alter table public.scripts add constraint scripts_readable check (
    created_at between '2000-01-01T00:00:00Z' and '9999-01-01T00:00:00Z'
    and json_typeof(request) = 'object'
    and json_typeof(problems) = 'array'
    and not jsonb_path_exists(problems::jsonb, 'strict $[*] ? (@.type() != "string")', '{}', true)
) not valid;

create index if not exists scripts_by_user on public.scripts (user_id, created_at, id);

-- Which schema this is, so that `lekhai serve` knows the table and can upgrade it.
create table if not exists public.scripts_version (
    version_num varchar(32) not null constraint scripts_version_pkc primary key
);
insert into public.scripts_version
select '0001' where not exists (select from public.scripts_version);

-- What the search looks through, for rows that a page writes; `lekhai serve` brings its own.
create or replace function public.scripts_fill() returns trigger
language plpgsql set search_path = '' as $$
begin
    new.industry := coalesce(new.request ->> 'industry', '');
    if tg_op = 'UPDATE' or new.search_text = '' then
        -- Small letters, NFC, one kind of digit, no joiners (U+200C, U+200D), single spaces.
        new.search_text := btrim(regexp_replace(
            translate(
                lower(normalize(concat_ws(
                    ' ', new.request ->> 'brand', new.request ->> 'product', new.request ->> 'message', new.markdown
                ), nfc)),
                '০১২৩৪৫৬৭৮৯' || chr(8204) || chr(8205), '0123456789'),
            '\s+', ' ', 'g'));
    end if;
    return new;
end
$$;
create or replace trigger scripts_fill before insert or update of request, markdown on public.scripts
    for each row execute function public.scripts_fill();

-- Rights. Supabase gives new tables to everybody, TRUNCATE included, which no policy holds back.
revoke all on public.scripts, public.scripts_version from public, anon, authenticated;
grant select, insert, update, delete on public.scripts to authenticated;
grant all on public.scripts to service_role;

alter table public.scripts enable row level security;
alter table public.scripts_version enable row level security;

-- (select auth.uid()) and not auth.uid(): asked once a statement instead of once a row.
drop policy if exists "see your own scripts" on public.scripts;
create policy "see your own scripts" on public.scripts
    for select to authenticated using ((select auth.uid()) = user_id);
drop policy if exists "keep your own scripts" on public.scripts;
create policy "keep your own scripts" on public.scripts
    for insert to authenticated with check ((select auth.uid()) = user_id);
drop policy if exists "change your own scripts" on public.scripts;
create policy "change your own scripts" on public.scripts
    for update to authenticated using ((select auth.uid()) = user_id) with check ((select auth.uid()) = user_id);
drop policy if exists "delete your own scripts" on public.scripts;
create policy "delete your own scripts" on public.scripts
    for delete to authenticated using ((select auth.uid()) = user_id);

commit;
