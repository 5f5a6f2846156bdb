<?php
// Inserts jobs and prints their results: php example.php queue.db
declare(strict_types=1);

function connect(string $path): PDO
{
    $db = new PDO("sqlite:$path", null, null, [
        PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
        PDO::ATTR_TIMEOUT => 5, // the busy timeout, in seconds
    ]);
    $db->exec('PRAGMA wal_autocheckpoint = 0'); // only the daemon checkpoints
    return $db;
}

function insert(PDO $db, string $batch): void
{
    $one = $db->prepare('INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)');
    $one->execute(["What's up?", $batch]);
    echo "inserted job {$db->lastInsertId()}\n";

    $cities = ['Oslo', 'Lima', 'Hanoi'];
    $db->exec('BEGIN IMMEDIATE');
    try {
        foreach ($cities as $city) {
            $one->execute(["Say hello to $city", $batch]);
        }
        $db->exec('COMMIT');
    } catch (Throwable $error) {
        $db->exec('ROLLBACK');
        throw $error;
    }
    echo 'inserted ', count($cities), " jobs in one transaction\n";

    $keyed = $db->prepare('INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)');
    for ($round = 0; $round < 2; $round++) {
        $keyed->execute(['Say hi', $batch, "$batch-hi"]);
        echo "inserted by key: {$keyed->rowCount()} new\n";
    }
}

/** Gives each result of the batch once, until nothing of it is queued or running. */
function results(PDO $db, string $batch): Generator
{
    $unfinished = $db->prepare('SELECT queued + running FROM batches WHERE batch = ?');
    $news = $db->prepare('SELECT seq, id, state, coalesce(text, error) AS text FROM results
        WHERE seq > ? AND batch = ? ORDER BY seq');
    [$seq, $seen, $left] = [0, null, 1];
    while ($left > 0) {
        $version = $db->query('PRAGMA data_version')->fetchColumn();
        if ($version === $seen) {
            usleep(100_000);
            continue;
        }
        $seen = $version;
        // First what is left, then the results: none can slip in between.
        $unfinished->execute([$batch]);
        [[$left]] = $unfinished->fetchAll(PDO::FETCH_NUM);
        $news->execute([$seq, $batch]);
        foreach ($news->fetchAll(PDO::FETCH_ASSOC) as $row) {
            $seq = $row['seq'];
            yield $row;
        }
    }
}

$db = connect($argv[1] ?? 'queue.db');
$batch = sprintf('php-%d-%d', time(), getmypid());
insert($db, $batch);
foreach (results($db, $batch) as ['id' => $id, 'state' => $state, 'text' => $text]) {
    echo "job $id $state: ", preg_replace('/\s+/', ' ', $text), "\n";
}
echo "done\n";
