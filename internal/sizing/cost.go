package sizing

import (
	"math"
	"strconv"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// HoursPerMonth is the length of a month that prices are for.
const HoursPerMonth = 730

// gb is the bytes of a GB.
const gb = 1e9

// Prices are in any one currency.
type Prices struct {
	// S3GBMonth is the price of a GB of files for a month.
	S3GBMonth float64
	// S3Per10k is the price of 10,000 requests of S3.
	S3Per10k float64
	// RedisGBHour is the price of a GB of Redis' memory for an hour.
	RedisGBHour float64
	// TransferGB is the price of a GB that is read from the files.
	TransferGB float64
}

// DefaultPrices are prices to begin with, in US dollars: somebody's once, not yours. Transfer within one region is mostly free.
func DefaultPrices() Prices { return Prices{S3GBMonth: 0.023, S3Per10k: 0.0004, RedisGBHour: 0.015} }

func (p Prices) check() error {
	for _, price := range []float64{p.S3GBMonth, p.S3Per10k, p.RedisGBHour, p.TransferGB} {
		if !(price >= 0) || math.IsInf(price, 0) {
			return fault.New(fault.Invalid, "a price is %v; it is a number of 0 or more", price)
		}
	}
	return nil
}

// Cost is what one thing costs a month.
type Cost struct {
	What string `json:"what"`
	// Amount of the unit a month, at the price of one of it.
	Amount float64 `json:"amount"`
	Unit   string  `json:"unit"`
	Price  float64 `json:"price"`
	// PerMonth is amount × price.
	PerMonth float64 `json:"per_month"`
}

// addCosts adds what everything costs a month.
func (p *Plan) addCosts(readings []*reading, o Options) {
	files, requests, transferred, remote := map[string]int64{}, 0.0, 0.0, len(readings) > 0
	for i, r := range readings {
		for _, f := range r.files {
			files[f.URL] = f.SizeBytes // views may share files
		}
		remote = remote && r.remote
		if interval := p.Views[i].IntervalSeconds; interval > 0 {
			runs := HoursPerMonth * 3600 / interval
			requests += runs * p.Views[i].RunRequests
			transferred += runs * float64(p.Views[i].RunReadBytes)
		}
	}
	stored := int64(0)
	for _, size := range files {
		stored += size
	}
	where := "S3"
	if !remote {
		where = "S3, were all files there"
	}
	add := func(what string, amount float64, unit string, price float64) {
		p.Costs = append(p.Costs, Cost{what, amount, unit, price, amount * price})
		p.CostPerMonth += amount * price
	}
	add("memory of Redis", float64(p.MemoryBytes)*float64(1+o.Replicas)/gb*HoursPerMonth, "GB-hours", o.Prices.RedisGBHour)
	add("files in "+where, float64(stored)/gb, "GB-months", o.Prices.S3GBMonth)
	add("requests of syncs to "+where, requests/10_000, "10,000 requests", o.Prices.S3Per10k)
	add("bytes that syncs read from "+where, transferred/gb, "GB", o.Prices.TransferGB)
}

// How S3 is asked, about: files a listing, and bytes a request (see offline).
const (
	filesPerListing = 1000
	bytesPerRequest = 4 << 20
)

// addTraffic adds what runs read and send. A later run reads what came since the run before, in a new file, unless the view has one file only: that is read whole. A snapshot reads
// everything each time.
func (r *reading) addTraffic(v *View, o Options) {
	all := r.keyBytes + r.featureBytes
	v.FirstRunReadBytes = all
	row := r.wireBytes(v.RowBytes, o.Redis.KeyPrefix)
	v.FirstRunSendBytes = round(float64(v.FirstRunRows) * row)
	v.RunSendBytes = round(v.RunRows * row)
	share, files, groups := 0.0, 0.0, 0.0
	switch {
	case r.rowsWanted == 0:
	case r.view.Sync.Mode == feature.Snapshot || len(r.files) == 1:
		share, files, groups = 1, float64(len(r.files)), float64(r.groups)
	default:
		share, files, groups = min(1, r.cameInRun()/float64(r.rowsWanted)), 1, 1
	}
	v.RunReadBytes = round(share * float64(all))
	listings := math.Ceil(float64(max(1, len(r.files))) / filesPerListing)
	// A file is asked for its footer, a row group for its keys and then for its values.
	v.RunRequests = listings + files + 2*groups + math.Floor(float64(v.RunReadBytes)/bytesPerRequest)
}

// wireBytes is the mean length of what is sent for a row: its key, view, value and expiry as arguments of a script.
func (r *reading) wireBytes(rowBytes float64, prefix string) float64 {
	key := len(prefix) + len(r.view.Entity.Name) + 2 + int(math.Round(r.keyMean()))
	expiry := 1
	if r.view.TTL > 0 {
		expiry = 13
	}
	lengths := []int{key, nameBytes(r.view), int(math.Round(rowBytes)), expiry}
	if r.view.HistoryVersions > 0 {
		// A score and the number of versions in place of the view, which is in the key.
		lengths = []int{key + len(historyMark) + nameBytes(r.view), 16, int(math.Round(rowBytes)), len(strconv.Itoa(r.view.HistoryVersions)), expiry}
	}
	sum := 0
	for _, n := range lengths {
		sum += len("$") + len(strconv.Itoa(n)) + len("\r\n") + n + len("\r\n")
	}
	return float64(sum)
}
