// Inserts jobs and prints their results: go run . queue.db
package main

import (
	"database/sql"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const (
	insertJob   = "INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)"
	insertKeyed = "INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)"
	unfinished  = "SELECT queued + running FROM batches WHERE batch = ?"
	news        = `SELECT seq, id, state, coalesce(text, error) FROM results
		WHERE seq > ? AND batch = ? ORDER BY seq`
)

func connect(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", path+"?_busy_timeout=5000&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// One connection for everything: data_version counts from where a connection began.
	db.SetMaxOpenConns(1)
	// Only the daemon checkpoints.
	_, err = db.Exec("PRAGMA wal_autocheckpoint = 0")
	return db, err
}

func insertMany(db *sql.DB, prompts []string, batch string) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	insert, err := tx.Prepare(insertJob)
	if err != nil {
		return err
	}
	for _, prompt := range prompts {
		if _, err := insert.Exec(prompt, batch); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func insert(db *sql.DB, batch string) error {
	one, err := db.Exec(insertJob, "What's up?", batch)
	if err != nil {
		return err
	}
	id, _ := one.LastInsertId()
	fmt.Println("inserted job", id)

	prompts := []string{"Say hello to Oslo", "Say hello to Lima", "Say hello to Hanoi"}
	if err := insertMany(db, prompts, batch); err != nil {
		return err
	}
	fmt.Println("inserted", len(prompts), "jobs in one transaction")

	for i := 0; i < 2; i++ {
		same, err := db.Exec(insertKeyed, "Say hi", batch, batch+"-hi")
		if err != nil {
			return err
		}
		changes, _ := same.RowsAffected()
		fmt.Println("inserted by key:", changes, "new")
	}
	return nil
}

type result struct {
	seq, id     int64
	state, text string
}

// results gives each result of the batch once, until nothing of it is queued or running.
func results(db *sql.DB, batch string, give func(result)) error {
	var seq, version, left int64
	for seen := int64(-1); ; seen = version {
		if err := db.QueryRow("PRAGMA data_version").Scan(&version); err != nil {
			return err
		}
		if version == seen {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		// First what is left, then the results: none can slip in between.
		if err := db.QueryRow(unfinished, batch).Scan(&left); err != nil {
			return err
		}
		rows, err := db.Query(news, seq, batch)
		if err != nil {
			return err
		}
		for rows.Next() {
			var r result
			if err := rows.Scan(&r.seq, &r.id, &r.state, &r.text); err != nil {
				rows.Close()
				return err
			}
			seq = r.seq
			give(r)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
	}
}

func run(path string) error {
	db, err := connect(path)
	if err != nil {
		return err
	}
	defer db.Close()
	batch := fmt.Sprintf("go-%d-%d", time.Now().Unix(), os.Getpid())
	if err := insert(db, batch); err != nil {
		return err
	}
	return results(db, batch, func(r result) {
		fmt.Printf("job %d %s: %s\n", r.id, r.state, strings.Join(strings.Fields(r.text), " "))
	})
}

func main() {
	path := "queue.db"
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	if err := run(path); err != nil {
		log.Fatal(err)
	}
	fmt.Println("done")
}
