# Inserts jobs and prints their results: perl example.pl queue.db
use strict;
use warnings;
use DBI;
use Time::HiRes 'sleep';

$| = 1;
binmode STDOUT, ':encoding(UTF-8)';

sub connect_to {
    my ($path) = @_;
    my $db = DBI->connect("dbi:SQLite:dbname=$path", '', '',
        { RaiseError => 1, PrintError => 0, AutoCommit => 1, sqlite_unicode => 1 });
    $db->sqlite_busy_timeout(5000);
    $db->do('PRAGMA wal_autocheckpoint = 0');    # only the daemon checkpoints
    return $db;
}

sub insert {
    my ($db, $batch) = @_;
    my $one = $db->prepare('INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)');
    $one->execute("What's up?", $batch);
    print 'inserted job ', $db->sqlite_last_insert_rowid, "\n";

    my @cities = qw(Oslo Lima Hanoi);
    $db->begin_work;    # BEGIN IMMEDIATE
    eval {
        $one->execute("Say hello to $_", $batch) for @cities;
        $db->commit;
        1;
    } or do {
        my $error = $@;
        $db->rollback;
        die $error;
    };
    print 'inserted ', scalar @cities, " jobs in one transaction\n";

    my $keyed = $db->prepare(
        'INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)');
    for (1 .. 2) {
        my $new = $keyed->execute('Say hi', $batch, "$batch-hi");
        print 'inserted by key: ', $new + 0, " new\n";
    }
}

# Gives each result of the batch once, until nothing of it is queued or running.
sub results {
    my ($db, $batch, $give) = @_;
    my ($seq, $seen, $left) = (0, -1, 1);
    while ($left > 0) {
        my ($version) = $db->selectrow_array('PRAGMA data_version');
        if ($version == $seen) {
            sleep 0.1;
            next;
        }
        $seen = $version;
        # First what is left, then the results: none can slip in between.
        ($left) = $db->selectrow_array(
            'SELECT queued + running FROM batches WHERE batch = ?', undef, $batch);
        my $news = $db->selectall_arrayref(
            'SELECT seq, id, state, coalesce(text, error) FROM results
             WHERE seq > ? AND batch = ? ORDER BY seq', undef, $seq, $batch);
        for my $row (@$news) {
            ($seq, my @result) = @$row;
            $give->(@result);
        }
    }
}

my $db = connect_to($ARGV[0] // 'queue.db');
my $batch = join '-', 'perl', time, $$;
insert($db, $batch);
results($db, $batch, sub {
    my ($id, $state, $text) = @_;
    print "job $id $state: ", join(' ', split ' ', $text), "\n";
});
print "done\n";
