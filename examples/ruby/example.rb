# Inserts jobs and prints their results: ruby example.rb queue.db
require "sqlite3"

def connect(path)
  db = SQLite3::Database.new(path)
  db.busy_timeout = 5000
  db.execute("PRAGMA wal_autocheckpoint = 0") # only the daemon checkpoints
  db
end

def insert(db, batch)
  one = db.prepare("INSERT INTO jobs (prompt, batch, max_tokens) VALUES (?, ?, 100)")
  one.execute("What's up?", batch)
  puts "inserted job #{db.last_insert_row_id}"

  cities = %w[Oslo Lima Hanoi]
  # It is rolled back when an exception leaves the block.
  db.transaction(:immediate) do
    cities.each { |city| one.execute("Say hello to #{city}", batch) }
  end
  puts "inserted #{cities.size} jobs in one transaction"

  keyed = db.prepare("INSERT INTO jobs (prompt, batch, key, max_tokens) VALUES (?, ?, ?, 100)")
  2.times do
    keyed.execute("Say hi", batch, "#{batch}-hi")
    puts "inserted by key: #{db.changes} new"
  end
end

# Gives each result of the batch once, until nothing of it is queued or running.
def results(db, batch)
  seq, seen, left = 0, nil, 1
  while left > 0
    version = db.get_first_value("PRAGMA data_version")
    next sleep(0.1) if version == seen

    seen = version
    # First what is left, then the results: none can slip in between.
    left = db.get_first_value("SELECT queued + running FROM batches WHERE batch = ?", [batch])
    news = db.execute(<<~SQL, [seq, batch])
      SELECT seq, id, state, coalesce(text, error) FROM results
      WHERE seq > ? AND batch = ? ORDER BY seq
    SQL
    news.each do |number, *result|
      seq = number
      yield(*result)
    end
  end
end

db = connect(ARGV.fetch(0, "queue.db"))
batch = "ruby-#{Time.now.to_i}-#{Process.pid}"
insert(db, batch)
results(db, batch) { |id, state, text| puts "job #{id} #{state}: #{text.split.join(' ')}" }
puts "done"
