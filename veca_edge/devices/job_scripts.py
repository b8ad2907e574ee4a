"""The shell scripts by which a job is started, watched and ended on a board, whose directory they get as `$1`."""

from __future__ import annotations

from .shell import BOARD_DIRECTORY

# Of a log that are sent at a look.
BLOCK_BYTES = 1_000_000

# Begins every script that changes a job's state: $1 is its directory. Exit code 5: another client holds the lock.
LOCKED = f"""
dir={BOARD_DIRECTORY}/"$1"
above=$(dirname "$dir")
lock=$dir.lock
unlock() {{
    trap - EXIT
    rm -f "$lock/pid"
    rmdir "$lock" 2>/dev/null
}}
tries=0
until mkdir "$lock" 2>/dev/null; do
    holder=$(cat "$lock/pid" 2>/dev/null)
    if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null || [ -n "$(find "$lock" -prune -mmin +1 2>/dev/null)" ]; then
        # Its holder was killed. One client takes it away, and puts it back if it is another's by now.
        if mv "$lock" "$lock.$$" 2>/dev/null; then
            if [ "$(cat "$lock.$$/pid" 2>/dev/null)" = "$holder" ]; then
                rm -rf "$lock.$$"
            else
                mv "$lock.$$" "$lock"
            fi
        fi
    fi
    # A client that leaves takes the directories away when they are empty, in this moment, too.
    mkdir -p "$above" 2>/dev/null || mkdir -p "$above" 2>/dev/null || mkdir -p "$above" || exit 3
    tries=$((tries + 1))
    if [ "$tries" -ge 150 ]; then
        [ -d "$lock" ] || mkdir "$lock" || exit 3
        exit 5
    fi
    sleep 0.1 2>/dev/null || sleep 1
done
trap unlock EXIT
trap 'exit 143' HUP INT TERM
echo $$ >"$lock/pid"
"""

WORKING = """
working() {
    [ -f "$dir/pid" ] && pid=$(cat "$dir/pid") && kill -0 "$pid" 2>/dev/null &&
        tr '\\0' ' ' <"/proc/$pid/cmdline" | grep -q "$(basename "$dir")"
}
"""

# Other users that looked, or copied something there, within the last two minutes.
OTHERS = """
user=$2
others() {
    [ ! -d "$dir" ] || find "$dir" -type f -mmin -2 '(' -path "*/users/*" -o -name "*.part" ')' ! -name "$user"
}
"""

# Registers the user and prints the state, the other users, and, when there is nothing yet, the free space in KiB
# and the digests of the files that are there. $3 is the oldest result in seconds, or 0.
STATE = f"""{LOCKED}{WORKING}{OTHERS}
mkdir -p "$dir/users" && cd "$dir" && : >"users/$user" || exit 3
if [ -f exit ] && [ "$3" -gt 0 ] && [ $(($(date +%s) - $(cat finished))) -gt "$3" ]; then
    rm -f exit finished log pid
fi
state=idle
if [ -f exit ]; then
    state=finished
elif working; then
    state=running
elif [ -f exit ]; then
    state=finished # it ended meanwhile
fi
echo "state $state"
others | sed 's,.*/,user ,'
unlock
if [ $state = idle ]; then
    df -Pk . | awk 'NR == 2 {{ print "free", $4 }}'
    for file in *; do
        case $file in *.part) continue ;; esac
        [ -f "$file" ] && sha256sum "$file" | sed 's/^/file /'
    done
fi
exit 0
"""

# $0 holds the job's directory, by which its process is known again.
RUNNER = """
cd "$(dirname "$0")" || exit 3
echo $$ >pid
sh ./job.sh >log 2>&1
code=$?
date +%s >finished
echo "$code" >exit.part && mv exit.part exit
"""

# Another client may have started it meanwhile, or even ended it.
LAUNCH = f"""{LOCKED}{WORKING}
cd "$dir" || exit 3
if [ -f exit ] || working || [ -f exit ]; then
    exit 0
fi
rm -f log exit finished pid
detach=
if command -v setsid >/dev/null 2>&1; then
    detach=setsid
fi
$detach nohup sh "$dir/run.sh" </dev/null >/dev/null 2>&1 &
tries=0
until [ -s pid ] || [ "$tries" -ge 150 ]; do
    tries=$((tries + 1))
    sleep 0.1 2>/dev/null || sleep 1
done
[ ! -s pid ] || exit 0
unlock
echo "the job's process did not start" >&2
exit 4
"""

# The exit code is read before the log, so that a finished job's log is whole.
POLL = f"""{WORKING}
dir={BOARD_DIRECTORY}/"$1"
cd "$dir" 2>/dev/null || {{ echo gone; exit 0; }}
[ ! -d users ] || : >"users/$2"
if [ -f exit ]; then
    echo "exit $(cat exit)"
elif working; then
    echo running
elif [ -f exit ]; then
    echo "exit $(cat exit)"
else
    echo died
fi
[ ! -f log ] || tail -c +"$(($3 + 1))" log | head -c {BLOCK_BYTES}
exit 0
"""

# Ends the job, unless somebody else waits for it too, and removes its files.
STOP = f"""{LOCKED}{WORKING}{OTHERS}
[ -d "$dir" ] || exit 0
rm -f "$dir/users/$user"
[ -z "$(others)" ] || exit 0
if [ ! -f "$dir/exit" ] && working; then
    kill -TERM "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null
    # Time for the job to put back what it changed (clocks).
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        for _ in 1 2 3 4 5; do
            kill -0 "-$pid" 2>/dev/null || break 2
            sleep 0.2 2>/dev/null || sleep 1
        done
    done
    kill -KILL "-$pid" 2>/dev/null || true
fi
rm -rf "$dir"
unlock
rmdir {BOARD_DIRECTORY}/jobs {BOARD_DIRECTORY} 2>/dev/null
exit 0
"""

# The last user takes the files along.
REMOVE = f"""{LOCKED}{OTHERS}
rm -f "$dir/users/$user"
if [ -z "$(others)" ]; then
    rm -rf "$dir"
fi
unlock
rmdir {BOARD_DIRECTORY}/jobs {BOARD_DIRECTORY} 2>/dev/null
exit 0
"""

# Takes users off the list: $2 and what follows.
LEAVE = f"""
cd {BOARD_DIRECTORY}/"$1/users" 2>/dev/null || exit 0
shift
for user in "$@"; do
    rm -f "./$user"
done
exit 0
"""

READ = f"""
cd {BOARD_DIRECTORY}/"$1" 2>/dev/null || exit 1
[ ! -d users ] || : >"users/$2"
[ -f "$3" ] && cat "$3"
"""
