package hist

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 129, 130, 1e6, 1e9, 1 << 40, 1<<63 - 1} {
		i := index(v)
		require.GreaterOrEqual(t, i, last)
		last = i
		u := uint64(upper(i))
		require.GreaterOrEqual(t, u, v)
		require.LessOrEqual(t, float64(u), float64(v)*(1+1.0/sub))
		require.Equal(t, i, index(u))
	}
}

func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h, a, b Histogram
	var all []time.Duration
	for i := range 10000 {
		d := time.Duration(rng.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.Add(d)
		if i%3 == 0 {
			a.Add(d)
		} else {
			b.Add(d)
		}
	}
	a.Merge(&b)
	a.Merge(&Histogram{})
	require.Equal(t, h, a)
	slices.Sort(all)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999} {
		exact := all[int(q*float64(len(all))+0.5)-1]
		require.InEpsilon(t, exact, h.Quantile(q), 1.0/sub, "q=%v", q)
	}
	require.Equal(t, all[0], h.Min())
	require.Equal(t, all[0], h.Quantile(0))
	require.Equal(t, all[len(all)-1], h.Max())
	require.Equal(t, h.Max(), h.Quantile(1))
	require.EqualValues(t, 10000, h.Count())
}

func TestEmptyAndNegative(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Quantile(0.5))
	require.Zero(t, h.Mean())
	h.Add(-time.Second)
	require.Zero(t, h.Max())
	require.EqualValues(t, 1, h.Count())
}
