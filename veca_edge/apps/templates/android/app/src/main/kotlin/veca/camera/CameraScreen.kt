package veca.camera

import androidx.compose.foundation.Image
import androidx.compose.foundation.horizontalScroll
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.layout.safeDrawingPadding
import androidx.compose.foundation.rememberScrollState
import androidx.compose.material3.FilterChip
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Slider
import androidx.compose.material3.Switch
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.remember
import androidx.compose.runtime.setValue
import androidx.compose.ui.Alignment
import androidx.compose.ui.Modifier
import androidx.compose.ui.graphics.asImageBitmap
import androidx.compose.ui.layout.ContentScale
import androidx.compose.ui.unit.dp
import java.util.Locale
import veca.core.Choice
import veca.core.Heat
import veca.core.Show

/** The camera's picture with what the model says, and how the core count is chosen. */
@Composable
fun CameraScreen(viewModel: CameraViewModel) {
    Column(
        modifier = Modifier.fillMaxSize().safeDrawingPadding().padding(12.dp),
        verticalArrangement = Arrangement.spacedBy(8.dp),
    ) {
        Text(viewModel.bundle.appName, style = MaterialTheme.typography.titleLarge)
        viewModel.message?.let { Text(it, color = MaterialTheme.colorScheme.error) }
        if (viewModel.bundle.shows.isEmpty()) {
            Text("This model has no output that can be shown.")
        } else if (viewModel.seen == null && viewModel.message == null) {
            Text("Loading the model...") // The first time on a phone takes seconds.
        }
        viewModel.seen?.let { Result(it) }
        if (viewModel.bundle.shows.size > 1) Shows(viewModel)
        Cores(viewModel)
    }
}

@Composable
private fun Result(seen: Seen) {
    Image(
        bitmap = seen.picture.asImageBitmap(),
        contentDescription = "camera",
        modifier = Modifier.fillMaxWidth(),
        contentScale = ContentScale.FillWidth,
    )
    for (found in seen.shown.painting.legend.take(5)) {
        Text("${found.name}  ${percent(found.share)}")
    }
    val times = seen.shown.times
    Text(
        "${seen.shown.coreCount} cores: prepare ${milliseconds(times.prepare)}, " +
            "model ${milliseconds(times.model)}, paint ${milliseconds(times.paint)}",
        style = MaterialTheme.typography.bodySmall,
    )
}

@Composable
private fun Shows(viewModel: CameraViewModel) {
    var chosen: Show? by remember { mutableStateOf(viewModel.show) }
    Row(Modifier.horizontalScroll(rememberScrollState()), horizontalArrangement = Arrangement.spacedBy(8.dp)) {
        for (show in viewModel.bundle.shows) {
            FilterChip(
                selected = show == chosen,
                onClick = {
                    chosen = show
                    viewModel.show = show
                },
                label = { Text(show.key) },
            )
        }
    }
}

@Composable
private fun Cores(viewModel: CameraViewModel) {
    var budget: Float by remember { mutableStateOf(33f) }
    val choice = viewModel.choice
    Row(Modifier.horizontalScroll(rememberScrollState()), horizontalArrangement = Arrangement.spacedBy(8.dp)) {
        for (count in viewModel.bundle.coreCounts) {
            val fixed = Choice.Fixed(count)
            FilterChip(
                selected = choice == fixed,
                onClick = { viewModel.choose(fixed) },
                label = { Text("$count cores") },
            )
        }
        FilterChip(
            selected = choice is Choice.Budget,
            onClick = { viewModel.choose(Choice.Budget(budget.toDouble())) },
            label = { Text("${milliseconds(budget.toDouble())} a frame") },
        )
    }
    if (choice is Choice.Budget) {
        Slider(
            value = budget,
            onValueChange = { budget = it },
            onValueChangeFinished = { viewModel.choose(Choice.Budget(budget.toDouble())) },
            valueRange = 5f..200f,
        )
    }
    if (viewModel.isMeasuring) Text("Measuring each core count...")
    Row(verticalAlignment = Alignment.CenterVertically, horizontalArrangement = Arrangement.spacedBy(8.dp)) {
        Switch(checked = viewModel.followsHeat, onCheckedChange = viewModel::followHeat)
        val heat = if (viewModel.heat == Heat.COOL) "" else ": it is ${viewModel.heat}"
        Text("fewer cores when hot$heat")
    }
}

private fun percent(share: Double): String = String.format(Locale.ROOT, "%.1f%%", 100 * share)

private fun milliseconds(value: Double): String = String.format(Locale.ROOT, "%.1f ms", value)
