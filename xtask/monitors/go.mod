// Nothing is built of this: its folder has the definitions of PodMonitor,
// ServiceMonitor and PrometheusRule, by which the chart's are checked. go.sum
// pins what is in it.
module gatewayqueue.dev/monitors

go 1.24.6

require github.com/prometheus-operator/prometheus-operator v0.85.0
