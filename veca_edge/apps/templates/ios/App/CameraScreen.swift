import SwiftUI
import Veca

/// The camera's picture with what the model says, and how the core count is chosen.
struct CameraScreen: View {
    @State private var model = CameraModel()
    @State private var budget = 33.0

    var body: some View {
        VStack(alignment: .leading, spacing: 8) {
            Text(verbatim: appName).font(.title2)
            if let message = model.message { Text(verbatim: message).foregroundStyle(.red) }
            if model.shows.isEmpty {
                Text("This model has no output that can be shown.")
            } else if let shown = model.shown {
                result(shown)
            } else if model.message == nil {
                ProgressView("Loading the model")  // the system prepares it once, which takes seconds
            }
            Spacer()
            if model.shows.count > 1 { shows }
            cores
        }
        .padding()
        .task { await model.run() }
    }

    @ViewBuilder
    private func result(_ shown: Shown) -> some View {
        if let image = shown.painting.picture.image {
            Image(decorative: image, scale: 1).resizable().scaledToFit()
        }
        // By their places: two classes may have one name.
        let legend = Array(shown.painting.legend.prefix(5).enumerated())
        ForEach(legend, id: \.offset) { _, found in
            Text(verbatim: "\(found.name)  \(found.share.formatted(.percent.precision(.fractionLength(1))))")
        }
        let (model, paint) = (milliseconds(shown.times.model), milliseconds(shown.times.paint))
        Text(verbatim: "\(shown.coreCount) cores: model \(model), paint \(paint)").font(.caption)
    }

    private var shows: some View {
        Picker("Show", selection: $model.show) {
            ForEach(model.shows, id: \.self) { Text(verbatim: $0.rawValue).tag(Optional($0)) }
        }
        .pickerStyle(.segmented)
    }

    @ViewBuilder
    private var cores: some View {
        HStack {
            ForEach(Veca.coreCounts, id: \.self) { count in
                Button("\(count)") { model.choose(.fixed(count)) }
                    .disabled(model.choice == .fixed(count))
            }
            Button("\(milliseconds(budget)) a frame") { model.choose(.budget(budget)) }
                .disabled(model.choice == .budget(budget))
        }
        .buttonStyle(.bordered)
        Slider(value: $budget, in: 5...200)
        if model.isMeasuring { Text("Measuring each core count...") }
        Toggle("Fewer cores when hot", isOn: $model.followsHeat)
    }

    private func milliseconds(_ value: Double) -> String {
        "\(value.formatted(.number.precision(.fractionLength(1)))) ms"
    }
}
